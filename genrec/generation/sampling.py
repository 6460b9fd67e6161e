"""The distribution that codes are sampled from: temperature, top-k and top-p, as language models do with tokens."""

import torch
from torch import Tensor

from genrec.generation.running_sum import running_sum


def shaped(log_probs: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Log-probabilities sharpened or flattened, then cut, and renormalised over what is left.

    Args:
        log_probs: (..., n), -inf where nothing can be chosen.
        temperature: the divisor of the log-probabilities; below 1 likely ones become likelier, above 1 less likely.
        top_k: keep this many of the most likely.
        top_p: then keep the fewest of the most likely whose probabilities sum to this much, at least one.

    Returns:
        As `log_probs`; -inf where it is, and where something was cut.

    Raises:
        ValueError: a setting is out of its range.

    Example:
        >>> log_probs = torch.tensor([0.5, 0.3, 0.2]).log()
        >>> shaped(log_probs, top_k=2).exp()
        tensor([0.6250, 0.3750, 0.0000])
        >>> shaped(log_probs, temperature=0.5, top_p=0.8).exp()  # squared: 25, 9 and 4 of 38
        tensor([0.7353, 0.2647, 0.0000])
    """
    _check(temperature, top_k, top_p)
    # a row in which nothing can be chosen becomes nan here, and -inf again below
    flat = (log_probs / temperature).log_softmax(-1)
    if top_k is not None or top_p is not None:
        flat = _cut(flat, top_k, top_p)
    return flat.masked_fill(log_probs == -torch.inf, -torch.inf)


def _check(temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}; a search without `random` is greedy already")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}; None keeps all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}; None keeps all")


def _cut(log_probs: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    ordered, order = log_probs.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered = _renormalised(ordered, torch.arange(ordered.shape[-1], device=ordered.device) < top_k)
    if top_p is not None:
        probs = ordered.exp()
        before = running_sum(probs, -1) - probs
        ordered = _renormalised(ordered, (before < top_p) | (top_p == 1))  # a rounded sum may reach 1 too soon
    return torch.full_like(log_probs, -torch.inf).scatter(-1, order, ordered)


def _renormalised(log_probs: Tensor, kept: Tensor) -> Tensor:
    return log_probs.masked_fill(~kept, -torch.inf).log_softmax(-1)
