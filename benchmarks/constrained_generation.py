"""The best existing items of a beam search, Beauty's histories: by width of the beam, and by size of the catalogue."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.beauty import CODES, N_ITEMS, code_table, histories
from benchmarks.harness import Case, Turn
from benchmarks.paper_size import LENGTH, MAX_HISTORY, cornac_model, hugging_face_model, our_model
from genrec.code_table import to_tokens
from genrec.command import keep_freed_memory

OUR_USERS = 128


def test_histories(n_users: int) -> Tensor:
    """Of random users, the longest first as the evaluation sorts them; padded to the longest."""
    examples = histories().examples("test").cut(MAX_HISTORY)
    drawn = examples.take(np.random.default_rng(0).permutation(len(examples))[:n_users])
    ordered = drawn.take(np.argsort(-drawn.lengths, kind="stable"))
    return torch.from_numpy(histories().padded(ordered)).long()


def ours(n_beams: int, n_items: int = N_ITEMS) -> Turn:
    keep_freed_memory()
    model = our_model(causal=False, table=code_table(n_items)).eval()
    batch = test_histories(OUR_USERS)

    def turn() -> float:
        model.generator.generate(batch, n_beams)
        return len(batch)

    return turn


def children_of(table: Tensor, offsets: Tensor) -> dict[tuple[int, ...], list[int]]:
    """Each prefix of the catalogue and what may follow it, both as codes plus offsets."""
    children: dict[tuple[int, ...], set[int]] = {}
    for row in (table[1:] + offsets).tolist():
        for depth in range(len(row)):
            children.setdefault(tuple(row[:depth]), set()).add(row[depth])
    return {prefix: sorted(codes) for prefix, codes in children.items()}


def hugging_face(n_beams: int, n_users: int) -> Turn:
    model, table = hugging_face_model().eval(), code_table()
    children = children_of(table, 1 + torch.arange(LENGTH) * CODES)
    tokens = to_tokens(table, CODES)[test_histories(n_users)].flatten(1)

    @torch.no_grad()
    def turn() -> float:
        model.generate(
            input_ids=tokens, attention_mask=(tokens != 0).long(), num_beams=n_beams, num_return_sequences=n_beams,
            max_new_tokens=LENGTH, do_sample=False, length_penalty=0.0,
            prefix_allowed_tokens_fn=lambda _, prefix: children[tuple(prefix.tolist()[1:])],
        )  # fmt: skip
        return n_users

    return turn


def cornac(n_beams: int, n_users: int) -> Turn:
    table = code_table()
    model = cornac_model(table).eval()
    children = children_of(table, torch.zeros(LENGTH, dtype=torch.int32))
    by_level = [{p: torch.tensor(c) for p, c in children.items() if len(p) == level} for level in range(LENGTH)]
    tokens = to_tokens(table, CODES)[test_histories(n_users)].flatten(1)

    def turn() -> float:
        for row in tokens.split(1):
            model.generate_beam(row, (row != 0).float(), n_beams, by_level)
        return n_users

    return turn


def widths(n_beams: int, peer_users: int) -> Case:
    contenders: dict[str, Callable[[], Turn]] = {
        "genrec": partial(ours, n_beams),
        "Hugging Face T5, prefix function": partial(hugging_face, n_beams, peer_users),
        "cornac": partial(cornac, n_beams, peer_users // 2),
    }
    return Case(f"constrained generation, beam {n_beams}, 12,101 items", "users", contenders)


CASES = [
    widths(10, 16),
    widths(20, 8),
    widths(50, 4),
    Case(
        "constrained generation, beam 20, by catalogue", "users",
        {f"genrec, {n:,} items": partial(ours, 20, n) for n in (N_ITEMS, 100_000, 1_000_000)},
    ),
]  # fmt: skip
