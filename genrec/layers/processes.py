"""What processes that train together owe each other, so that they learn what one would; alone each function is idle.

Each process has its share of every batch, and DistributedDataParallel takes the mean of the processes' gradients. What
one process would compute of the whole batch, a mean or a mask of dropout, is therefore asked for here. torch's own
random numbers are the same in all processes: whatever is drawn is drawn for the whole batch.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from genrec.errors import UserError

Value = TypeVar("Value")
Rows = TypeVar("Rows", NDArray[Any], Tensor)
Count = TypeVar("Count", int, Tensor)


def n_processes() -> int:
    """How many train together, this one included."""
    return distributed.get_world_size() if _is_together() else 1


def process_rank() -> int:
    """The number of this process among them, from 0; the first alone writes."""
    return distributed.get_rank() if _is_together() else 0


def trains_alone(portable: bool, gpus: int) -> bool:
    """Whether a training is one process's, however many there are for evaluations.

    On CPUs a portable one is: it is to have the same bytes everywhere, and sums over shares of a batch are other sums.
    """
    return portable and not gpus


def _is_together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def share_of(rows: Rows) -> Rows:
    """This process's rows of a whole batch: each n-th, so that rows sorted by length are shared evenly.

    Raises:
        UserError: the batch has fewer rows than there are processes.
    """
    n = n_processes()
    if len(rows) < n:
        raise UserError(
            f"a batch has {len(rows)} rows, fewer than the {n} processes that share it; raise batch_size, or lower "
            "trainer.devices"
        )
    return rows if n == 1 else rows[process_rank() :: n]


def total_of(n: int, device: torch.device) -> int:
    """The sum of a count over all processes.

    What a loader's batch logs counts as so many rows in each of them: Lightning cuts the mean of the counts, which are
    whole numbers, to a whole one.
    """
    return n if n_processes() == 1 else int(summed(torch.tensor(n, device=device)))


def weight_of(n: int | Tensor, total: int | Tensor) -> float | Tensor:
    """What a mean over this process's n rows is multiplied by, so that the processes' mean is that over all rows.

    Example:
        >>> weight_of(3, 3)  # alone
        1.0
    """
    return n * n_processes() / total


def summed(value: Tensor) -> Tensor:
    """The sum over all processes, of any shape, without a gradient."""
    if n_processes() == 1:
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total


def mean_of_all(values: Sequence[Tensor]) -> list[Tensor]:
    """The mean over the processes of each tensor, of any shapes and one type, in one exchange; without a gradient."""
    if n_processes() == 1 or not values:
        return list(values)
    means = summed(torch.cat([value.flatten() for value in values])) / n_processes()
    pieces = means.split([value.numel() for value in values])
    return [piece.view_as(value) for piece, value in zip(pieces, values, strict=True)]


def gathered(rows: Tensor, total: int | None = None) -> Tensor:
    """All processes' rows in the order of the whole batch: (n, ...) to (n of all, ...).

    A loss of them has its gradient in each process's own rows, summed over the processes; the mean that
    DistributedDataParallel takes of the parameters' gradients is then that of the processes' losses, whether each of
    them is of all rows or of a share.

    Args:
        rows: those that `share_of` gave this process.
        total: the rows of all, where that is known.
    """
    if n_processes() == 1:
        return rows
    everyones: Tensor = _Gathered.apply(rows, total_of(len(rows), rows.device) if total is None else total)
    return everyones


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, total: int) -> Tensor:
        n = n_processes()
        padded = rows.new_zeros(-(-total // n), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(n)]
        distributed.all_gather(parts, padded)
        return torch.stack(parts, 1).flatten(0, 1)[:total]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return share_of(summed(gradient.contiguous())), None


def of_the_first(make: Callable[[], Value]) -> Value:
    """What the first process makes, for all of them; what it raises stays its own."""
    if n_processes() == 1:
        return make()
    made = [make() if process_rank() == 0 else None]
    distributed.broadcast_object_list(made)
    value: Any = made[0]
    return value


def wait_for_all() -> None:
    """Return when all processes have come here."""
    if n_processes() > 1:
        distributed.barrier()


def end_others() -> None:
    """End all processes but the first, which writes what all have found together."""
    if process_rank() > 0:
        raise SystemExit


class WholeBatch:
    """How a tensor of this process's rows lies in that of the whole batch, of which each process draws alike.

    Attributes:
        n_rows, n_targets: that all processes have of the batch at work; of targets those that are known.
    """

    def __init__(self) -> None:
        self._n_own = self.n_rows = self.n_targets = 1

    def begin(self, n_own: int, n_targets: int | Tensor, device: torch.device, stops: bool = False) -> bool:
        """A step begins: tell all processes what this one has, in one exchange of all that a step must know.

        Args:
            n_own: rows of the batch.
            n_targets: of the targets, those that are known.
            stops: whether this process wants to end.

        Returns:
            whether any of them wants to end.
        """
        counts = torch.stack([torch.as_tensor(count, device=device) for count in (n_own, n_targets, int(stops))])
        self._n_own = n_own
        self.n_rows, self.n_targets, n_stops = summed(counts).tolist()
        return bool(n_stops)

    def shape(self, share: Sequence[int]) -> tuple[int, ...]:
        """The shape that the whole batch's tensor has: (rows, ...), or (rows * places, ...), to the same of all rows.

        Raises:
            ValueError: it does not have the same number of places for each row.
        """
        if n_processes() == 1:
            return tuple(share)
        return (self.n_rows * self._places(share[0]), *share[1:])

    def share(self, whole: Tensor) -> Tensor:
        """This process's part of a tensor of the shape that `shape` gave; alone, the tensor itself."""
        if n_processes() == 1:
            return whole
        n_places = len(whole) // self.n_rows
        return whole.unflatten(0, (self.n_rows, n_places))[process_rank() :: n_processes()].flatten(0, 1)

    def _places(self, size: int) -> int:
        n_places, rest = divmod(size, self._n_own)
        if rest:
            raise ValueError(
                f"what is drawn for a batch of {self._n_own} rows must have the same number of places for each of "
                f"them, but it has {size} in all"
            )
        return n_places


WHOLE_BATCH = WholeBatch()


def rows_of_all(n: int) -> int:
    """The rows of the batch at work in all processes, of which this one has n; without an exchange."""
    return n if n_processes() == 1 else WHOLE_BATCH.n_rows


def targets_of_all(n: Count) -> Count | int:
    """The known targets of the batch at work in all processes, of which this one has n; without an exchange."""
    return n if n_processes() == 1 else WHOLE_BATCH.n_targets
