"""A table that follows from a network's weights, kept as long as these stay as they are."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

CHUNK_ROWS = 2**14  # of a table that is made piece by piece


class KeepsTable(nn.Module):
    """A network that scores all items again and again: it makes their vectors once in eval mode.

    They are forgotten when that ends, or weights are loaded or moved. Not until torch counts a change: a fused
    optimizer raises no count, and in inference mode there is none.
    """

    _table: Tensor | None = None

    def kept_table(self, n_rows: int, make: Callable[[Tensor], Tensor], chunk: int = CHUNK_ROWS) -> Tensor:
        """What `make` gives for 0 .. n_rows - 1, in pieces of `chunk` rows where it is kept.

        Args:
            make: row numbers (n,) int64 to (n, ...), on the device of the first parameter.
        """
        rows = torch.arange(n_rows, device=next(self.parameters()).device)
        if self.training or torch.is_grad_enabled():
            return make(rows)
        if self._table is None:
            self._table = torch.cat([make(part) for part in rows.split(chunk)])
        return self._table

    def forget_table(self) -> None:
        self._table = None

    def train(self, mode: bool = True) -> Self:
        """As every module's."""
        self.forget_table()
        return super().train(mode)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self.forget_table()
        super()._load_from_state_dict(*arguments, **options)

    def _apply(self, *arguments: Any, **options: Any) -> Self:
        self.forget_table()
        return super()._apply(*arguments, **options)
