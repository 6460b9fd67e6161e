"""The best existing items of a beam search, Beauty's histories: by width of the beam, and by size of the catalogue.

Ours are given users as our evaluation gives them, sorted by length. Public code takes them as they come and pads to the
longest, so the peers are measured so; Hugging Face's also with users of like length, to tell what the order is worth.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.beauty import CODES, N_ITEMS, code_table, evaluation_batches, users_in_any_order
from benchmarks.harness import Case, Turn, also_in_bfloat16
from benchmarks.paper_size import LENGTH, MAX_HISTORY, cornac_model, hugging_face_model, our_model
from genrec.codes.code_table import to_tokens
from genrec.generation.item_generator import BEAM_ROWS
from genrec.pipeline.command import keep_freed_memory

BATCHES = 6


def ours(n_beams: int, n_items: int = N_ITEMS) -> Turn:
    keep_freed_memory()
    model = our_model(causal=False, table=code_table(n_items)).eval()
    work = evaluation_batches(MAX_HISTORY, BATCHES, BEAM_ROWS // n_beams)

    def turn() -> float:
        for batch in work:
            model.generator.generate(batch, n_beams)
        return sum(map(len, work))

    return turn


def children_of(table: Tensor, offsets: Tensor) -> dict[tuple[int, ...], list[int]]:
    """Each prefix of the catalogue and what may follow it, both as codes plus offsets."""
    children: dict[tuple[int, ...], set[int]] = {}
    for row in (table[1:] + offsets).tolist():
        for depth in range(len(row)):
            children.setdefault(tuple(row[:depth]), set()).add(row[depth])
    return {prefix: sorted(codes) for prefix, codes in children.items()}


def hugging_face(n_beams: int, work: list[Tensor]) -> Turn:
    model, table = hugging_face_model().eval(), code_table()
    children = children_of(table, 1 + torch.arange(LENGTH) * CODES)
    tokens_of = to_tokens(table, CODES)

    @torch.no_grad()
    def turn() -> float:
        for history in work:
            tokens = tokens_of[history].flatten(1)
            model.generate(
                input_ids=tokens, attention_mask=(tokens != 0).long(), num_beams=n_beams, num_return_sequences=n_beams,
                max_new_tokens=LENGTH, do_sample=False, length_penalty=0.0,
                prefix_allowed_tokens_fn=lambda _, prefix: children[tuple(prefix.tolist()[1:])],
            )  # fmt: skip
        return sum(map(len, work))

    return turn


def cornac(n_beams: int, n_users: int) -> Turn:
    table = code_table()
    model = cornac_model(table).eval()
    children = children_of(table, torch.zeros(LENGTH, dtype=torch.int32))
    by_level = [{p: torch.tensor(c) for p, c in children.items() if len(p) == level} for level in range(LENGTH)]
    tokens = to_tokens(table, CODES)[users_in_any_order(MAX_HISTORY, n_users)].flatten(1)

    def turn() -> float:
        for row in tokens.split(1):
            model.generate_beam(row, (row != 0).float(), n_beams, by_level)
        return n_users

    return turn


def widths(n_beams: int, peer_users: int) -> Case:
    contenders: dict[str, Callable[[], Turn]] = {
        "genrec": partial(ours, n_beams),
        "Hugging Face T5, prefix function": lambda: hugging_face(
            n_beams, [users_in_any_order(MAX_HISTORY, peer_users)]
        ),
        "the same, users of like length": lambda: hugging_face(
            n_beams, evaluation_batches(MAX_HISTORY, BATCHES, max(peer_users // 8, 1))
        ),
        "cornac": partial(cornac, n_beams, peer_users // 2),
    }
    return Case(f"constrained generation, beam {n_beams}, 12,101 items", "users", also_in_bfloat16(contenders))


CASES = [
    widths(10, 16),
    widths(20, 8),
    widths(50, 4),
    Case(
        "constrained generation, beam 20, by catalogue", "users",
        {f"genrec, {n:,} items": partial(ours, 20, n) for n in (N_ITEMS, 100_000, 1_000_000)},
    ),
]  # fmt: skip
