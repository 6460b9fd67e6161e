"""Loaders that assemble a batch by whole-array indexing; an epoch's order is a function of (seed, epoch) alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from genrec.errors import UserError
from genrec.layers.processes import share_of
from genrec.sequences.histories import Examples, Histories, Runs, Split

GROUPED_BATCHES = 64  # batches are cut from stretches of this many that are sorted by length

Lengths = NDArray[np.int64] | Callable[[NDArray[np.int64]], NDArray[np.int64]]


class Windows(Dataset[dict[str, Tensor]]):
    """A history and the item that follows it."""

    def __init__(self, histories: Histories, examples: Examples | Runs) -> None:
        self.histories = histories
        self.examples = examples

    def __getitem__(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """`history` (share, longest) int64, padded with 0 on the right, and `target` (share,) int64."""
        examples, width = _own_share(self.examples.take(rows))
        return {
            "history": torch.from_numpy(self.histories.padded(examples, width)).long(),
            "target": torch.from_numpy(self.histories.targets(examples)).long(),
        }


@dataclass(frozen=True)
class DrawnExamples(Examples):
    """Windows of the histories as one epoch has them.

    Attributes:
        histories: in which equal times may stand in another order than in the next epoch.
    """

    histories: Histories


class DrawnWindows(Dataset[dict[str, Tensor]]):
    """As `Windows`, of the histories as an epoch has them."""

    def __getitem__(self, windows: DrawnExamples) -> dict[str, Tensor]:
        return Windows(windows.histories, windows)[np.arange(len(windows))]


class Segments(Dataset[dict[str, Tensor]]):
    """A stretch of a history and the next item at each of its positions, for models that learn all of them at once."""

    def __getitem__(self, segments: DrawnExamples) -> dict[str, Tensor]:
        """`history` and `target`, both (share, longest) int64, padded with 0 on the right."""
        inputs, width = _own_share(segments)
        following = Examples(inputs.starts + 1, inputs.ends + 1)
        return {
            "history": torch.from_numpy(segments.histories.padded(inputs, width)).long(),
            "target": torch.from_numpy(segments.histories.padded(following, width)).long(),
        }


class Rows(Dataset[dict[str, Tensor]]):
    """Rows of a table of item embeddings."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def __getitem__(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"features": self.features[torch.from_numpy(share_of(rows))]}


def _own_share(examples: Examples) -> tuple[Examples, int]:
    """This process's windows of a whole batch's, and the width of the longest of all: what the batch is padded to."""
    width = max(int(examples.lengths.max(initial=0)), 1)
    return Examples(share_of(examples.starts), share_of(examples.ends)), width


class SharedSampler(Sampler[Any]):
    """One that draws whole batches, in all processes the same, of which the data set takes this process's share."""


class BatchSampler(SharedSampler):
    """The rows of each batch of an epoch, shuffled, with rows of like length together so that little is padded.

    Args:
        lengths: (n_rows,), or what gives those of some rows, or None where all rows are equally long.
        n_drawn: how many rows an epoch draws, without replacement; 0 draws all.
    """

    def __init__(
        self, n_rows: int, batch_size: int, seed: int, lengths: Lengths | None = None, n_drawn: int = 0
    ) -> None:
        self.n_rows = n_rows
        self.lengths = np.zeros_like if lengths is None else lengths
        self.n_drawn = min(n_drawn, n_rows) or n_rows
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n_drawn // self.batch_size)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        # a generator draws at its first batch: Lightning makes a resumed run's iterator before it sets the epoch
        random = np.random.default_rng([self.seed, self.epoch])
        # of the smallest integers that hold all rows: the draws do not depend on them
        shuffled = np.arange(self.n_rows, dtype=np.min_scalar_type(-self.n_rows))
        random.shuffle(shuffled)
        drawn = shuffled[: self.n_drawn].astype(np.int64)
        lengths = self.lengths(drawn) if callable(self.lengths) else self.lengths[drawn]
        yield from grouped_batches(drawn, lengths, len(self), random)


class WindowSampler(SharedSampler):
    """The windows of another sampler's rows, in histories whose equal times have a new order each epoch.

    What is held out stays where it is, so that no window holds it.
    """

    def __init__(self, histories: Histories, examples: Examples | Runs, rows: BatchSampler) -> None:
        self.histories = histories.with_held_out_in_place()
        self.examples = examples
        self.rows = rows

    def set_epoch(self, epoch: int) -> None:
        self.rows.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[DrawnExamples]:
        histories = None
        for rows in self.rows:
            # at the first batch: Lightning makes a resumed run's iterator before it sets the epoch
            histories = histories or self._shuffled()
            windows = self.examples.take(rows)
            yield DrawnExamples(windows.starts, windows.ends, histories)

    def _shuffled(self) -> Histories:
        of_ties = 1  # numbers of its own, beside those that draw the rows
        return self.histories.with_ties_shuffled(np.random.default_rng([self.rows.seed, self.rows.epoch, of_ties]))


class SegmentSampler(SharedSampler):
    """Histories cut into stretches of at most `max_history` targets; where the first cut falls changes each epoch.

    Every target of a long history is thus learned once an epoch, after a new beginning each time.

    Args:
        shuffles_ties: put interactions of one time into a new order each epoch.
        lengths: (n_users,), how many of each user's first interactions are learned from; None for all.
    """

    def __init__(
        self,
        histories: Histories,
        max_history: int,
        batch_size: int,
        seed: int,
        shuffles_ties: bool = False,
        lengths: NDArray[np.int64] | None = None,
    ) -> None:
        self.histories = histories
        self.n_inputs = np.maximum((histories.lengths if lengths is None else lengths) - 1, 0)
        self.shuffles_ties = shuffles_ties
        self.max_history = max_history
        self.seed = seed
        self.epoch = 0
        # the trainer asks once, and the number of stretches varies with the cuts: by the fewest there can be
        fewest = -(-self.n_inputs // max_history)
        self.n_batches = -(-int(fewest.sum()) // batch_size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[DrawnExamples]:
        random = self._random()
        segments = self._segments(random)
        order = random.permutation(len(segments))
        batches = grouped_batches(order, segments.lengths[order], self.n_batches, random)
        histories = self.histories.with_ties_shuffled(random) if self.shuffles_ties else self.histories
        for rows in batches:
            yield DrawnExamples(segments.starts[rows], segments.ends[rows], histories)

    def _random(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch])

    def _segments(self, random: np.random.Generator) -> Examples:
        """Windows without their targets: a user with m items has m - 1 inputs, i_0 .. i_{m-2}."""
        n_inputs, starts = self.n_inputs, self.histories.offsets[:-1]
        # a history that fits is never cut; a longer one loses 0 .. max_history - 1 places of its first stretch
        shift = np.where(n_inputs > self.max_history, random.integers(0, self.max_history, len(n_inputs)), 0)
        n_segments = -(-(n_inputs + shift) // self.max_history)
        users = np.repeat(np.arange(len(n_inputs)), n_segments)
        turn = np.arange(n_segments.sum()) - np.repeat(np.cumsum(n_segments) - n_segments, n_segments)
        first = turn * self.max_history - shift[users]
        return Examples(
            starts[users] + np.maximum(first, 0), starts[users] + np.minimum(first + self.max_history, n_inputs[users])
        )


def grouped_batches(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], n_batches: int, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Cut shuffled rows into batches of like length and nearly equal size, and shuffle the batches."""
    stretch = np.arange(len(rows)) * n_batches // (len(rows) * GROUPED_BATCHES)
    rows = rows[np.lexsort((lengths, stretch))]
    batches = np.array_split(rows, n_batches)
    return [batches[i] for i in random.permutation(n_batches)]


def window_loader(
    histories: Histories,
    split: Split,
    max_history: int,
    batch_size: int,
    seed: int,
    n_drawn: int = 0,
    shuffles_ties: bool = False,
) -> DataLoader[dict[str, Tensor]]:
    """A loader of one split's windows, in batches of like length."""
    examples = (histories.train_windows() if split == "train" else histories.examples(split)).cut(max_history)
    _refuse_nothing(len(examples), histories, split)
    rows = BatchSampler(len(examples), batch_size, seed, lambda rows: examples.take(rows).lengths, n_drawn)
    return _windows(histories, examples, rows, shuffles_ties)


def mixed_window_loader(
    histories: Histories, max_history: int, batch_size: int, seed: int, n_drawn: int = 0, shuffles_ties: bool = False
) -> DataLoader[dict[str, Tensor]]:
    """A loader of training windows whose batches are drawn from all lengths, for in-batch negatives.

    A window's length tells its place in a history, so that batches of like length hold other items than the whole:
    their popularity is not the one that the negatives are corrected for.
    """
    examples = histories.train_windows().cut(max_history)
    _refuse_nothing(len(examples), histories)
    return _windows(histories, examples, BatchSampler(len(examples), batch_size, seed, n_drawn=n_drawn), shuffles_ties)


def _windows(
    histories: Histories, examples: Examples | Runs, rows: BatchSampler, shuffles_ties: bool
) -> DataLoader[dict[str, Tensor]]:
    if shuffles_ties:
        return DataLoader(DrawnWindows(), sampler=WindowSampler(histories, examples, rows), batch_size=None)
    return DataLoader(Windows(histories, examples), sampler=rows, batch_size=None)


def segment_loader(
    histories: Histories, max_history: int, batch_size: int, seed: int, shuffles_ties: bool = False
) -> DataLoader[dict[str, Tensor]]:
    """A loader of all training positions; histories are cut to what may be learned from.

    Where ties are shuffled that part is copied, 5 bytes an interaction, and its items once more each epoch.
    """
    if shuffles_ties:
        sampler = SegmentSampler(histories.train_part(), max_history, batch_size, seed, True)
    else:
        sampler = SegmentSampler(histories, max_history, batch_size, seed, lengths=histories.train_lengths)
    _refuse_nothing(len(sampler), histories)
    return DataLoader(Segments(), sampler=sampler, batch_size=None)


def _refuse_nothing(n_examples: int, histories: Histories, split: Split = "train") -> None:
    if n_examples:
        return
    if histories.cuts is None:
        raise UserError(
            f"the histories hold nothing to train on: none of the {histories.n_users} users has 4 interactions, of "
            "which two are held out; give more interactions, or lower min_item_interactions"
        )
    raise UserError(
        f"the split in time leaves no targets for {split}: none of the {histories.n_users} users has an interaction in "
        "that part of time and one before it; move prepare_data.time.train_until or .validate_until, or set "
        "prepare_data.split: leave_one_out"
    )


def training_loader(
    histories: Histories,
    encoder: str,
    max_history: int,
    batch_size: int,
    seed: int,
    windows_per_epoch: int,
    shuffles_ties: bool = False,
) -> DataLoader[dict[str, Tensor]]:
    """What a generator learns from: windows for a bidirectional encoder, whole stretches for a causal one."""
    if encoder == "bidirectional":
        return window_loader(histories, "train", max_history, batch_size, seed, windows_per_epoch, shuffles_ties)
    return segment_loader(histories, max_history, batch_size, seed, shuffles_ties)


def row_loader(features: Tensor, batch_size: int, seed: int) -> DataLoader[dict[str, Tensor]]:
    """A loader of the rows of a table, shuffled."""
    return DataLoader(Rows(features), sampler=BatchSampler(len(features), batch_size, seed), batch_size=None)
