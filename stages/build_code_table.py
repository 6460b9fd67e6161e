"""Code every item with the tokenizer, and add the collision code that makes each semantic ID unique."""

from pathlib import Path

import numpy as np
import torch

from genrec.code_table import build_code_table, collision_rate, save_code_table
from genrec.command import run_stage
from genrec.data.output import write_metrics
from genrec.models.checkpoint import load_model
from genrec.models.rqvae import RqVae
from genrec.params import Model, read_section

EMBEDDINGS = Path("data/item_embeddings.npy")
TOKENIZER = Path("data/models/rqvae.ckpt")
CODE_TABLE = Path("data/code_table.npy")
METRICS = Path("reports/build_code_table/metrics.json")


def main() -> None:
    shape = read_section(Model)
    features = torch.from_numpy(np.load(EMBEDDINGS, allow_pickle=False))[1:]
    codes = load_model(RqVae, TOKENIZER).semantic_codes(features)
    table = build_code_table(codes, shape.code_num)
    save_code_table(table, CODE_TABLE)
    largest = int(table[:, -1].max()) + 1
    write_metrics({"collision_rate": collision_rate(codes), "largest_bucket": largest}, METRICS)


if __name__ == "__main__":
    run_stage(main, __doc__)
