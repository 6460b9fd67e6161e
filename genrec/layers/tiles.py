"""What a user is given does not depend on who else is in the batch: rows are computed in tiles of one shape.

A matrix product of one row is another sum than the same row among many: libraries have a kernel for each kind of shape,
and these add up in different orders. The last bits of a user's scores would differ between an evaluation's batches and
a single question, and two items of nearly equal scores would change places. Here every row meets the same shapes
wherever it is asked for: so many rows in a tile, filled up by copies, and a history padded to a width that follows from
its own length. With gradients, on a GPU and in an exported graph all rows are computed at once.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

ROWS = 32  # of users: a single question costs as much as so many; fewer would slow evaluations down
WIDTH = 8  # what widths of histories are multiples of


def in_tiles(compute: Callable[..., Tensor], *columns: Tensor, size: int) -> Tensor:
    """compute(*columns), `size` rows at a time.

    Args:
        compute: tensors with one row an example to another of as many rows.

    Example:
        >>> in_tiles(lambda x, y: x * y, torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]), size=2).tolist()
        [4, 10, 18]
    """
    n_rows = len(columns[0])
    if not n_rows or at_once(columns[0]):
        return compute(*columns)
    tiles = (
        compute(*(_filled(column[start : start + size], size) for column in columns))[: n_rows - start]
        for start in range(0, n_rows, size)
    )
    return torch.cat(list(tiles))


def score_in_tiles(score: Callable[[Tensor], Tensor], history: Tensor, max_history: int) -> Tensor:
    """score(history), in tiles of histories of like length.

    Args:
        score: histories (batch, length) to (batch, n); padding on the right changes nothing for it.
        history: (batch, at most max_history) item_ids, 0 = padding.
    """
    if not len(history) or at_once(history):
        return score(history)
    scores: Tensor | None = None
    for rows, part in of_like_length(history, max_history):
        for places, tile in zip(rows.split(ROWS), part.split(ROWS), strict=True):
            found = score(_filled(tile, ROWS))[: len(places)]
            if scores is None:
                scores = found.new_empty(len(history), found.shape[1])
            scores[places] = found
    assert scores is not None  # there is a row
    return scores


def of_like_length(history: Tensor, max_history: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows (n,) and their histories (n, width), which width is the least multiple of `WIDTH` that leaves one padded.

    Args:
        history: (batch, length) item_ids, 0 = padding.
        max_history: no width is above it, with or without padding.

    Example:
        >>> history = torch.tensor([[4] * 9, [3] * 2 + [0] * 7])
        >>> [(rows.tolist(), part.shape[1]) for rows, part in of_like_length(history)]
        [([1], 8), ([0], 16)]
    """
    place = torch.arange(1, history.shape[1] + 1, device=history.device)
    lengths = (place * (history != 0)).amax(1)
    widths = (lengths // WIDTH + 1) * WIDTH
    if max_history is not None:
        widths = widths.clamp_max(max_history)
    for width in widths.unique().tolist():
        rows = (widths == width).nonzero()[:, 0]
        part = history[rows, :width]
        yield rows, torch.nn.functional.pad(part, (0, width - part.shape[1]))


def at_once(rows: Tensor) -> bool:
    """Whether all rows are computed together: with gradients, on a GPU, and where a graph is exported."""
    return torch.is_grad_enabled() or rows.device.type != "cpu" or torch.compiler.is_exporting()


def _filled(rows: Tensor, size: int) -> Tensor:
    """With copies of the last row where there are fewer."""
    missing = size - len(rows)
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows
