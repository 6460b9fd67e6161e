"""Code every item with the tokenizer, and add the collision code that makes each semantic ID unique."""

from pathlib import Path

import torch

from genrec.codes.code_table import build_code_table, collision_rate, save_code_table
from genrec.codes.item_embeddings import load_embeddings
from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.params.model import Model
from genrec.params.reading import read_section
from genrec.pipeline.command import run_stage
from genrec.storage.checkpoint import load_model
from genrec.storage.output import write_metrics

EMBEDDINGS = Path("data/item_embeddings.npy")
TOKENIZER = Path("data/models/rqvae.ckpt")
CODE_TABLE = Path("data/code_table.npy")
METRICS = Path("reports/build_code_table/metrics.json")


def main() -> None:
    shape = read_section(Model)
    features = torch.from_numpy(load_embeddings(EMBEDDINGS))[1:]
    tokenizer = load_model(
        RqVaeNetwork, TOKENIZER, input_dim=features.shape[1], num_embeddings=shape.code_num, num_levels=shape.num_levels
    )
    codes = tokenizer.semantic_codes(features)
    table = build_code_table(codes, shape.code_num)
    save_code_table(table, CODE_TABLE)
    largest = int(table[:, -1].max()) + 1
    write_metrics({"collision_rate": collision_rate(codes), "largest_bucket": largest}, METRICS)


if __name__ == "__main__":
    run_stage(main, __doc__)
