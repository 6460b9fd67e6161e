"""Write the item embeddings that the tokenizer reads: SASRec's item table, or a file of the user's own."""

from pathlib import Path

from genrec.command import run_stage
from genrec.data.embeddings import read_embeddings, standardize
from genrec.data.histories import Histories
from genrec.files import save_array
from genrec.models.checkpoint import load_model
from genrec.models.sasrec import SASRec
from genrec.params import ExtractEmbeddings, read_section

HISTORIES = Path("data/prepared/histories.npz")
ITEMS = Path("data/prepared/items.parquet")
SASREC = Path("data/models/sasrec.ckpt")
EMBEDDINGS = Path("data/item_embeddings.npy")


def main() -> None:
    config = read_section(ExtractEmbeddings)
    n_items = Histories.load(HISTORIES).n_items
    if config.source == "sasrec":
        embeddings = load_model(SASRec, SASREC, n_items=n_items).item_embedding.weight.detach().numpy()
    else:
        embeddings = read_embeddings(Path(config.path), n_items, ITEMS)
    if config.standardize:
        embeddings = standardize(embeddings)
    save_array(embeddings, EMBEDDINGS)


if __name__ == "__main__":
    run_stage(main, __doc__)
