"""Sums up to each place, deterministic on every device."""

import torch
from torch import Tensor


def running_sum(x: Tensor, dim: int) -> Tensor:
    """`x.cumsum(dim)` for short dimensions: codes, or items of a history.

    CUDA has no deterministic algorithm for it, and refuses it where trainings ask for one; there it is a product with
    a triangle of ones.

    Args:
        x: float.

    Example:
        >>> running_sum(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0).tolist()
        [[1.0, 2.0], [4.0, 6.0]]
    """
    if x.device.type == "cpu":
        return x.cumsum(dim)
    ones = torch.ones(x.shape[dim], x.shape[dim], dtype=x.dtype, device=x.device).triu()
    with torch.autocast(x.device.type, enabled=False):
        return (x.movedim(dim, -1) @ ones).movedim(-1, dim)
