"""Dropout whose random numbers cost a fifth on a CPU: one draw of 64 bits decides eight elements.

Processes that share a batch draw the masks of all its rows alike, and each takes those of its own.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.layers.processes import WHOLE_BATCH, n_processes


class Dropout(nn.Module):
    """Zeroes each element independently with probability p, a multiple of 1/256 on a CPU, and rescales the others.

    torch draws one number an element, on one thread; that is a quarter of a small transformer's training step.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must be in [0, 1), got {p}")
        self.p = p
        self.threshold = min(round(p * 256), 255)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.threshold == 0:
            return x
        return x * self.mask(x) if x.device.type == "cpu" else drop_own_rows(x, self.p)

    def mask(self, x: Tensor) -> Tensor:
        """0 with probability threshold / 256, else the factor that keeps the mean; of x's shape and dtype."""
        return self._factors(WHOLE_BATCH.share(self._bytes(WHOLE_BATCH.shape(x.shape))), x.dtype)

    def _bytes(self, shape: Sequence[int]) -> Tensor:
        size = math.prod(shape)
        draws = torch.empty(-(-size // 8), dtype=torch.int64).random_(-(2**63), None)
        return draws.view(torch.uint8)[:size].view(shape)

    def _factors(self, drawn: Tensor, dtype: torch.dtype) -> Tensor:
        return (drawn >= self.threshold).to(dtype).mul_(256 / (256 - self.threshold))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ElementDropout(nn.Dropout):
    """torch's own dropout, which `torch.compile` knows; processes that share a batch draw its masks alike."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return drop_own_rows(x, self.p)


def drop_own_rows(x: Tensor, p: float) -> Tensor:
    """`F.dropout` in a training, of this process's rows as one process would have it of them."""
    if n_processes() == 1:
        return F.dropout(x, p)
    return x * WHOLE_BATCH.share(F.dropout(x.new_ones(WHOLE_BATCH.shape(x.shape)), p))


class SharedDropout(Dropout):
    """`Dropout` for all layers of a network, whose masks are slices of one draw, each from a random place on.

    Within a mask all elements are independent. An element of one layer's mask also stands in another layer's, as a
    rule at another token and another neuron, which no sum brings together. On a CPU this saves most of the draws,
    which cost as much as the matrix products beside them.
    """

    SHIFTS = 2**16  # so many places can the mask of the largest layer begin at

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self._drawn: Tensor | None = None

    def draw_anew(self) -> None:
        """Forget the draw; to be called once a pass, before the first layer."""
        self._drawn = None

    def mask(self, x: Tensor) -> Tensor:
        shape = WHOLE_BATCH.shape(x.shape)
        size = math.prod(shape)
        if self._drawn is None or len(self._drawn) < size or self._drawn.dtype != x.dtype:
            self._drawn = self._factors(self._bytes((size + self.SHIFTS,)), x.dtype)
        begin = int(torch.randint(len(self._drawn) - size + 1, ()))
        return WHOLE_BATCH.share(self._drawn[begin : begin + size].view(shape))
