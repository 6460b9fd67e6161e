"""TIGER at the paper's size, 4.6 million parameters: ours, Hugging Face's T5 and cornac's, with random weights."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.beauty import CODES, LEVELS, code_table
from genrec.models.tiger import Tiger

LENGTH = LEVELS + 1
MAX_HISTORY = 20
DIM, HEADS, HEAD_DIM, FF_DIM, LAYERS, DROPOUT = 128, 6, 64, 1024, 4, 0.1
LEARNING_RATE = 1e-3


def our_model(causal: bool, table: Tensor | None = None) -> Tiger:
    table = code_table() if table is None else table
    model = Tiger(
        1 + LENGTH * CODES, DIM, HEADS, LAYERS, FF_DIM, DROPOUT, MAX_HISTORY * LENGTH, LEARNING_RATE,
        code_length=LENGTH, n_items=len(table) - 1, head_dim=HEAD_DIM, causal=causal,
    )  # fmt: skip
    model.set_code_table(table)
    return model


def hugging_face_model() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=1 + LENGTH * CODES, d_model=DIM, d_ff=FF_DIM, d_kv=HEAD_DIM, num_heads=HEADS, num_layers=LAYERS,
            dropout_rate=DROPOUT, pad_token_id=0, decoder_start_token_id=0, eos_token_id=None,
        )
    )  # fmt: skip


def cornac_model(table: Tensor) -> Any:
    from cornac.models.tiger.tiger import TIGERSeq2Seq

    sizes = [CODES] * LEVELS + [int(table[:, -1].max()) + 1]
    return TIGERSeq2Seq(sizes, DIM, FF_DIM, HEADS, HEAD_DIM, LAYERS, LAYERS, DROPOUT)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
