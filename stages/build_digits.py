"""Make the digits of parallel semantic IDs, some of the item embeddings, some of the words of the item table."""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.codes.item_embeddings import load_embeddings
from genrec.codes.tokenizer.code_health import check_gates, code_health
from genrec.data.words import WordEmbeddings, embed_words, has_words
from genrec.digits.table import build_digits
from genrec.params.build_digits import BuildDigits
from genrec.params.extract_embeddings import ExtractEmbeddings
from genrec.params.reading import read_section, read_seed
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.storage.files import save_array
from genrec.storage.output import read_parquet, write_metrics

EMBEDDINGS = Path("data/item_embeddings.npy")
ITEMS = Path("data/prepared/items.parquet")
DIGITS = Path("data/digits.npy")
METRICS = Path("reports/build_digits/metrics.json")
# of all digits together; those of each would be a hundred figures
FIGURES = ("min_usage", "min_entropy", "collision_rate", "largest_bucket")


def main() -> None:
    config, seed = read_section(BuildDigits), read_seed()
    trainer = read_section(Trainer)
    torch.set_num_threads(trainer.num_threads)
    embeddings, words = load_embeddings(EMBEDDINGS), embedded_words(config.word_digits)
    sources: list[tuple[NDArray[np.float32], int]] = [(embeddings, config.embedding_digits)]
    if words is not None:
        sources.append((words.vectors, config.word_digits))
    digits = build_digits([source for source in sources if source[1]], config.code_num, config.iterations, seed)
    health = code_health(digits[1:].long(), config.code_num)
    figures = {name: health[name] for name in FIGURES} | {"num_digits": digits.shape[1]}
    if words is not None:
        figures["items_without_words"] = words.n_without
    write_metrics(figures, METRICS)
    save_array(digits.numpy(), DIGITS)
    gates = config.gates
    check_gates(
        health, gates.min_usage, gates.min_entropy, gates.max_collision_rate, place="build_digits.gates",
        way_out="Change build_digits.code_num or the number of digits, or give other embeddings",
    )  # fmt: skip


def embedded_words(n_digits: int) -> WordEmbeddings | None:
    """What digits of words are made of; None for no digits, and where no column was named and the words are too few."""
    words = read_section(ExtractEmbeddings).words
    items = read_parquet(ITEMS)
    if n_digits and not words.columns and not has_words(items, words.dim):
        sys.stderr.write(
            f"the item table has no {words.dim} dimensions of words (extract_embeddings.words.dim), so that no digits "
            "are made of them\n"
        )
        return None
    return embed_words(items, words.columns, words.dim, seed=0) if n_digits else None


if __name__ == "__main__":
    run_stage(main, __doc__)
