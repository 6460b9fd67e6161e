"""Training steps of TIGER at the paper's size, batch 128: on histories of 20 items, and on Beauty's."""

import torch
from torch import Tensor

from benchmarks.beauty import CODES, code_table, histories, spread
from benchmarks.harness import Case, Turn, also_in_bfloat16
from benchmarks.paper_size import (
    LEARNING_RATE,
    LENGTH,
    MAX_HISTORY,
    cornac_model,
    hugging_face_model,
    our_model,
    train,
)  # fmt: skip
from genrec.codes.code_table import to_tokens
from genrec.pipeline.command import keep_freed_memory
from genrec.sequences.batches import segment_loader, window_loader

BATCH, BATCHES = 128, 3


def beauty_windows() -> Turn:
    return ours(spread(window_loader(histories(), "train", MAX_HISTORY, BATCH, seed=0), BATCHES))


def full_batches(n: int) -> list[dict[str, Tensor]]:
    shape = (BATCH, MAX_HISTORY)
    return [
        {"history": torch.randint(1, 12_000, shape), "target": torch.randint(1, 12_000, (BATCH,))} for _ in range(n)
    ]


def ours(batches: list[dict[str, Tensor]], causal: bool = False) -> Turn:
    keep_freed_memory()
    model = our_model(causal)
    model.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, fused=True)

    def turn() -> float:
        for batch in batches:
            train(model, optimizer, model.training_step(batch, 0))
        return sum(int((batch["target"] != 0).sum()) for batch in batches)

    return turn


def all_positions() -> Turn:
    return ours(spread(segment_loader(histories(), MAX_HISTORY, BATCH, seed=0), BATCHES), causal=True)


def padded(batches: list[dict[str, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """As the peers see them: histories of 80 tokens whatever their length, and the target's codes."""
    table = code_table()
    tokens = to_tokens(table, CODES)
    rows = []
    for batch in batches:
        history = torch.nn.functional.pad(batch["history"], (0, MAX_HISTORY - batch["history"].shape[1]))
        rows.append((tokens[history].flatten(1), table[batch["target"]].long()))
    return rows


def hugging_face(batches: list[dict[str, Tensor]]) -> Turn:
    model, work = hugging_face_model().train(), padded(batches)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    offsets = 1 + torch.arange(LENGTH) * CODES

    def turn() -> float:
        for tokens, codes in work:
            mask = (tokens != 0).long()
            train(model, optimizer, model(input_ids=tokens, attention_mask=mask, labels=codes + offsets).loss)
        return BATCH * len(work)

    return turn


def cornac(batches: list[dict[str, Tensor]]) -> Turn:
    model, work = cornac_model(code_table()).train(), padded(batches)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)

    def turn() -> float:
        for tokens, codes in work:
            train(model, optimizer, model(tokens, (tokens != 0).float(), codes))
        return BATCH * len(work)

    return turn


def beauty_batch() -> list[dict[str, Tensor]]:
    """A batch of all lengths."""
    return [next(iter(window_loader(histories(), "train", MAX_HISTORY, BATCH, seed=1, n_drawn=BATCH)))]


CASES = [
    Case(
        "TIGER training, histories of 20 items", "examples",
        {
            "genrec": lambda: ours(full_batches(1)),
            "Hugging Face T5": lambda: hugging_face(full_batches(1)),
            "cornac": lambda: cornac(full_batches(1)),
        },
    ),
    Case(
        "TIGER training, Beauty's lengths", "targets",
        also_in_bfloat16(
            {
                "genrec": beauty_windows,
                "genrec, all positions in one pass": all_positions,
                "Hugging Face T5": lambda: hugging_face(beauty_batch()),
                "cornac": lambda: cornac(beauty_batch()),
            }
        ),
    ),
]  # fmt: skip
