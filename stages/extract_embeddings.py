"""Write the item embeddings that the tokenizer reads: SASRec's table, of the items' words or texts, or a user's own."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from genrec.codes.item_embeddings import check_embeddings
from genrec.data.embeddings import read_embeddings, standardize, with_padding_row
from genrec.data.text_embeddings import encode_texts, item_texts, template_of
from genrec.data.words import embed_words, join_embeddings
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.params.extract_embeddings import ExtractEmbeddings, TextEncoder, Words
from genrec.params.reading import read_section
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.storage.checkpoint import load_model
from genrec.storage.files import save_array, user_path
from genrec.storage.output import read_parquet

ITEMS = Path("data/prepared/items.parquet")
SASREC = Path("data/models/sasrec.ckpt")
EMBEDDINGS = Path("data/item_embeddings.npy")


def main() -> None:
    config, trainer = read_section(ExtractEmbeddings), read_section(Trainer)
    torch.set_num_threads(trainer.num_threads)
    if config.source == "sasrec":
        embeddings = sasrec_table()
    elif config.source == "words":
        embeddings = word_vectors(config.words)
    elif config.source == "sasrec+words":
        embeddings = join_embeddings([sasrec_table(), word_vectors(config.words)])
    elif config.source == "text":
        embeddings = embed_texts(read_parquet(ITEMS), config.text, trainer.gpus)
    else:
        item_keys = read_parquet(ITEMS, columns=["item_key"])["item_key"].tolist()
        embeddings = read_embeddings(user_path(config.path, "extract_embeddings.path"), item_keys)
    if config.standardize:
        embeddings = standardize(embeddings)
    save_array(embeddings, EMBEDDINGS)


def sasrec_table() -> NDArray[np.float32]:
    """float32 (n_items + 1, dim), row = item_id, row 0 = padding."""
    n_items = len(read_parquet(ITEMS, columns=["item_id"]))
    sasrec = load_model(SASRecNetwork, SASREC, n_items=n_items)
    with torch.inference_mode():
        table: NDArray[np.float32] = sasrec.item_vectors(torch.arange(n_items + 1)).numpy()
    return table


def word_vectors(words: Words) -> NDArray[np.float32]:
    """As `sasrec_table`; the SVD's start is the same for all seeds of the training."""
    return embed_words(read_parquet(ITEMS), words.columns, words.dim, seed=0).vectors


def embed_texts(items: pd.DataFrame, text: TextEncoder, gpus: int) -> NDArray[np.float32]:
    """float32 (n_items + 1, dim), row = item_id, row 0 = padding."""
    vectors = encode_texts(
        item_texts(items, template_of(text.columns)),
        text.model,
        batch_size=text.batch_size,
        max_length=text.max_length,
        device="cuda" if gpus else "cpu",
        normalize=True,
    )
    return check_embeddings(with_padding_row(vectors), len(items), text.model)


if __name__ == "__main__":
    run_stage(main, __doc__)
