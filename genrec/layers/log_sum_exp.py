"""log sum exp of products with many vectors, by pieces that stay in a core's cache: the costly part of a softmax over
a large sample.

A plain softmax writes the matrix of logits, its mask, its exponentials and their gradients to memory and reads them
back, which takes longer than the products themselves.

Letters: n states, k vectors, d dim, h hidden pairs.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**19  # of logits: 2 MiB in float32


def log_sum_exp_of_products(states: Tensor, vectors: Tensor, hidden_rows: Tensor, hidden_columns: Tensor) -> Tensor:
    """log sum_j exp(states_i . vectors_j) over the pairs that are not hidden.

    Args:
        states: (n, d).
        vectors: (k, d).
        hidden_rows: (h,) int64, ascending; with `hidden_columns` (h,) the pairs that do not count.

    Returns:
        (n,) float32, or float64 where the inputs are; -inf where all pairs of a row are hidden.
    """
    if torch.is_autocast_enabled(states.device.type):
        dtype = torch.get_autocast_dtype(states.device.type)
        states, vectors = states.to(dtype), vectors.to(dtype)
    sums: Tensor = _LogSumExp.apply(states, vectors, hidden_rows, hidden_columns)
    return sums


class _LogSumExp(torch.autograd.Function):
    """Logits are computed again for the gradient rather than kept."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, vectors: Tensor, hidden_rows: Tensor, hidden_columns: Tensor) -> Tensor:
        sums = [logits.logsumexp(1) for _, logits in _chunks(states, vectors, hidden_rows, hidden_columns)]
        result = torch.cat(sums)
        ctx.save_for_backward(states, vectors, hidden_rows, hidden_columns, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        states, vectors, hidden_rows, hidden_columns, sums = ctx.saved_tensors
        of_states = torch.empty_like(states)
        of_vectors = torch.zeros_like(vectors, dtype=sums.dtype)
        for rows, logits in _chunks(states, vectors, hidden_rows, hidden_columns):
            logits.sub_(sums[rows, None].nan_to_num(neginf=0)).exp_().mul_(gradient[rows, None])
            probabilities = logits.to(states.dtype)
            of_states[rows] = probabilities @ vectors
            of_vectors += probabilities.T @ states[rows]
        return of_states, of_vectors.to(vectors.dtype), None, None


def _chunks(
    states: Tensor, vectors: Tensor, hidden_rows: Tensor, hidden_columns: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Rows and their logits (n_chunk, k), -inf where they are hidden, in at least float32."""
    size = max(CHUNK_ELEMENTS // len(vectors), 1) if states.device.type == "cpu" else len(states)
    starts = list(range(0, len(states), size))
    places = torch.searchsorted(hidden_rows, torch.tensor([*starts, len(states)], device=hidden_rows.device)).tolist()
    for i, start in enumerate(starts):
        rows, pairs = slice(start, start + size), slice(places[i], places[i + 1])
        logits = states[rows] @ vectors.T
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        logits[hidden_rows[pairs] - start, hidden_columns[pairs]] = -torch.inf
        yield rows, logits
