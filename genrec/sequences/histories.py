"""Users' histories as two flat arrays, and the examples that a split cuts from them, all by whole-array indexing.

An example is a window `items[start:end]` and its target `items[end]`; no history is ever copied until a batch needs it.
Leave-one-out holds back each user's last two interactions:

    user with n interactions   i_0 ... i_{n-4}  i_{n-3}  i_{n-2}  i_{n-1}
    train                      every prefix of i_0 .. i_{n-3} with its next item
    validation                 i_0 .. i_{n-3}  ->  i_{n-2}
    test                       i_0 .. i_{n-2}  ->  i_{n-1}

A split in time holds back what comes after a moment, of all users the same: how many interactions that are of one user
varies, and may be none or all of them. A target has all of its user's interactions before it as its history, so that
one of test knows what lies between the two moments, and has at least one: somebody's first interaction is no target.
Leave-one-out of some users is held in the same way.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from genrec.errors import UserError
from genrec.storage.files import mapped_arrays, save_arrays

AGAIN = "run `dvc repro -f prepare_data`"

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
EVALUATED_SPLITS: tuple[Split, ...] = ("validation", "test")

BLOCK = 1 << 22  # interactions of which something is counted at once


@dataclass(frozen=True)
class Examples:
    """Windows of one `Histories`.

    Attributes:
        starts: int64 (n_examples,), the position of a window's first item in `Histories.items`.
        ends: int64 (n_examples,), the position after its last item, which is the target's.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.ends - self.starts

    def take(self, rows: NDArray[np.integer]) -> "Examples":
        return Examples(self.starts[rows], self.ends[rows])

    def cut(self, max_history: int) -> "Examples":
        """Keep the last `max_history` items of each window."""
        return Examples(np.maximum(self.starts, self.ends - max_history), self.ends)


@dataclass(frozen=True)
class Runs:
    """Windows that are not listed: of each user, in turn, all that end from one position up to another.

    They cost memory by the user, where `Examples` cost 16 bytes a window.

    Attributes:
        starts: int64 (n_users,), the position of the user's first item.
        first: int64 (n_users,), the position of the first target.
        before: int64 (n_users + 1,), how many windows those of the users before have; the last is how many there are.
        max_history: how many items a window may have; None for all.
    """

    starts: NDArray[np.int64]
    first: NDArray[np.int64]
    before: NDArray[np.int64]
    max_history: int | None = None

    @classmethod
    def of(cls, starts: NDArray[np.int64], first: NDArray[np.int64], stops: NDArray[np.int64]) -> "Runs":
        """Each position from a user's `first` up to `stops` as a target behind all before it."""
        return cls(starts, first, np.concatenate([[0], np.cumsum(np.maximum(stops - first, 0))]))

    def __len__(self) -> int:
        return int(self.before[-1])

    def take(self, rows: NDArray[np.integer]) -> Examples:
        users = np.searchsorted(self.before, rows, side="right") - 1
        windows = Examples(self.starts[users], self.first[users] + rows - self.before[users])
        return windows if self.max_history is None else windows.cut(self.max_history)

    def cut(self, max_history: int) -> "Runs":
        """Keep the last `max_history` items of each window."""
        return replace(self, max_history=max_history)


@dataclass(frozen=True)
class TimeCuts:
    """Where two moments fall in each user's history, or what leave-one-out of some users holds out.

    Attributes:
        train_stops: int64 (n_users,), the position in `Histories.items` after the user's last interaction before the
            first moment.
        validation_stops: int64 (n_users,), the same of the second moment.
        all_targets: whether every interaction after a moment is a target, or the user's first alone.
    """

    train_stops: NDArray[np.int64]
    validation_stops: NDArray[np.int64]
    all_targets: bool


@dataclass(frozen=True)
class Histories:
    """All interactions, users one after another, each oldest first.

    Attributes:
        items: int32 (n_interactions,), item_ids 1..n_items.
        offsets: int64 (n_users + 1,); the user with user_id u owns items[offsets[u - 1] : offsets[u]].
        n_items: the size of the catalogue, padding not counted.
        tied: bool (n_interactions,), whether the order of an interaction and the user's one before is arbitrary, as
            both have one time; None where all order is given.
        cuts: of a split in time; None stands for leave-one-out.
    """

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    n_items: int
    tied: NDArray[np.bool_] | None = None
    cuts: TimeCuts | None = None

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def examples(self, split: Split) -> Examples:
        """The windows of a split with their targets.

        Leave-one-out: the last interaction is tested, the last but one validates, the rest trains. For train there is
        an example for each target i_1 .. i_{n-3}; validation and test have one for each user, in the order of user_ids.

        In time: train has one for each interaction before the first moment but a user's first; validation and test
        have one for each interaction between the moments and after the second, or for the first of each user, in the
        order of user_ids and then of time. Users without such an interaction have none.

        Example:
            >>> histories = Histories(np.array([1, 2, 3, 4, 5], np.int32), np.array([0, 5]), n_items=5)
            >>> [histories.examples(split).ends.tolist() for split in SPLITS]
            [[1, 2], [3], [4]]
        """
        starts, stops = self.offsets[:-1], self.offsets[1:]
        if split == "train":
            return _listed(self.train_windows())
        if self.cuts is None:
            return Examples(starts, stops - (1 if split == "test" else 2))
        test = split == "test"
        first = np.maximum(self.cuts.validation_stops if test else self.cuts.train_stops, starts + 1)
        last = stops if test else self.cuts.validation_stops
        return _listed(Runs.of(starts, first, last if self.cuts.all_targets else np.minimum(last, first + 1)))

    def held_out_of(self, n_users: int) -> "Histories":
        """Leave-one-out of so many users, at even distances; the others train with all that they have.

        Example:
            >>> histories = Histories(np.array([1, 2, 3, 4, 5, 6], np.int32), np.array([0, 3, 6]), n_items=6)
            >>> [histories.held_out_of(1).examples(split).ends.tolist() for split in SPLITS]
            [[4, 5], [1], [2]]
        """
        stops = self.offsets[1:]
        is_held_out = np.zeros(self.n_users, np.int64)
        is_held_out[np.arange(n_users) * self.n_users // n_users] = 1
        return replace(self, cuts=TimeCuts(stops - 2 * is_held_out, stops - is_held_out, all_targets=True))

    @property
    def holds_out_some(self) -> bool:
        """Whether of each user the last two interactions are held out, or none."""
        if self.cuts is None:
            return False
        tested = self.offsets[1:] - self.cuts.validation_stops
        validates = self.cuts.validation_stops - self.cuts.train_stops
        return bool(((tested == validates) & (tested <= 1)).all())

    def train_windows(self) -> Runs:
        """Those of `examples("train")`, in their order, without a list of them."""
        starts = self.offsets[:-1]
        return Runs.of(starts, starts + 1, starts + self.train_lengths)

    @property
    def train_lengths(self) -> NDArray[np.int64]:
        """int64 (n_users,), how many of each user's first interactions train."""
        if self.cuts is not None:
            return self.cuts.train_stops - self.offsets[:-1]
        return np.maximum(self.lengths - 2, 0)

    def users_of(self, examples: Examples) -> NDArray[np.int64]:
        """int64 (n_examples,): the user_id of each window.

        Example:
            >>> histories = Histories(np.array([1, 2, 3, 4, 5, 6], np.int32), np.array([0, 3, 6]), n_items=6)
            >>> histories.users_of(histories.examples("test")).tolist()
            [1, 2]
        """
        return np.searchsorted(self.offsets, examples.ends, side="right")

    def train_part(self) -> "Histories":
        """What models may learn from: each user without what is held out; a copy."""
        parts = list(self.train_blocks())
        offsets = np.concatenate([[0], np.cumsum(self.train_lengths)])
        tied = None if self.tied is None else np.concatenate([part.tied for part in parts if part.tied is not None])
        return Histories(np.concatenate([part.items for part in parts]), offsets, self.n_items, tied)

    def train_blocks(self) -> Iterator["Histories"]:
        """`train_part` as parts of it, users one after another, of bounded size: so it is counted without a copy."""
        lengths = self.train_lengths
        for users in stretches(self.offsets, BLOCK):
            starts, kept = self.offsets[:-1][users], lengths[users]
            offsets = np.concatenate([[0], np.cumsum(kept)])
            positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], kept)
            tied = None if self.tied is None else self.tied[positions]
            yield Histories(self.items[positions], offsets, self.n_items, tied)

    def train_counts(self) -> NDArray[np.int64]:
        """int64 (n_items + 1,), how many of the interactions that models may learn from each item has.

        Example:
            >>> Histories(np.array([1, 2, 1, 2, 2], np.int32), np.array([0, 5]), n_items=2).train_counts().tolist()
            [0, 2, 1]
        """
        counts = np.zeros(self.n_items + 1, np.int64)
        for part in self.train_blocks():
            counts += np.bincount(part.items, minlength=self.n_items + 1)
        return counts

    def with_held_out_in_place(self) -> "Histories":
        """The same, with nothing that is held out tied to what trains.

        Under leave-one-out the two interactions of each user are tied to each other neither: their order is kept.
        """
        if self.tied is None:
            return self
        tied, ends = self.tied.copy(), self.offsets[1:]
        if self.cuts is not None:
            tied[self.cuts.train_stops[self.cuts.train_stops < ends]] = False
            return replace(self, tied=tied)
        for back in (1, 2):
            tied[(ends - back)[self.lengths >= back]] = False
        return replace(self, tied=tied)

    def with_ties_shuffled(self, random: np.random.Generator) -> "Histories":
        """Interactions of one time in a new order; all others stay.

        Example:
            >>> tied = np.array([False, False, True, True, False])
            >>> histories = Histories(np.array([1, 2, 3, 4, 5], np.int32), np.array([0, 5]), n_items=5, tied=tied)
            >>> histories.with_ties_shuffled(np.random.default_rng(1)).items.tolist()
            [1, 4, 2, 3, 5]
        """
        if self.tied is None:
            return self
        shares_time = self.tied | np.append(self.tied[1:], False)
        rows = np.flatnonzero(shares_time)
        time = np.cumsum(~self.tied[rows])  # rises with each new time, so no group reaches over users
        items = self.items.copy()
        # numpy's, whose seed is an argument
        order = np.lexsort((random.random(len(rows)), time))  # nosec B311
        items[rows] = items[rows[order]]
        return replace(self, items=items)

    def targets(self, examples: Examples) -> NDArray[np.int32]:
        """int32 (n_examples,): the item that follows each window."""
        return self.items[examples.ends]

    def padded(self, examples: Examples, width: int | None = None) -> NDArray[np.int32]:
        """The windows as one rectangle, padded with 0 on the right.

        Returns:
            int32 (n_examples, width); without `width` as wide as the longest window.

        Example:
            >>> histories = Histories(np.array([1, 2, 3, 4, 5], np.int32), np.array([0, 5]), n_items=5)
            >>> histories.padded(histories.examples("train")).tolist()
            [[1, 0], [1, 2]]
        """
        lengths = examples.lengths
        columns = np.arange(width or max(int(lengths.max(initial=0)), 1))
        inside = columns < lengths[:, None]
        positions = np.where(inside, examples.starts[:, None] + columns, 0)
        return np.where(inside, self.items[positions], 0).astype(np.int32)

    def save(self, file: Path) -> None:
        items, offsets = self.items.astype(np.int32), self.offsets.astype(np.int64)
        tied = np.zeros(len(items), bool) if self.tied is None else self.tied
        arrays: dict[str, NDArray[Any]] = {
            "items": items,
            "offsets": offsets,
            "tied": tied,
            "n_items": np.array(self.n_items),
        }
        if self.cuts is not None:
            arrays |= {name: np.asarray(value) for name, value in vars(self.cuts).items()}
        save_arrays(arrays, file)

    @classmethod
    def load(cls, file: Path) -> "Histories":
        """Map what `save` wrote: a .npz with `items`, `offsets`, `tied`, `n_items`, and `TimeCuts` of a split in time.

        Its arrays are views of the file: what no batch looks at takes no memory.

        Raises:
            UserError: the file is missing or damaged, or its arrays do not fit each other.
        """
        arrays = mapped_arrays(file)
        if {"items", "offsets", "tied", "n_items"} - arrays.keys() or arrays["n_items"].size != 1:
            raise UserError(f"{file} must hold items, offsets, tied and n_items, got {', '.join(arrays)}; {AGAIN}")
        items, offsets, n_items = arrays["items"], arrays["offsets"], int(arrays["n_items"].item())
        if not offsets.size or offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets) < 0).any():
            raise UserError(f"{file}: offsets must rise from 0 to the number of items, {len(items)}; {AGAIN}")
        if items.dtype.kind != "i" or not len(items) or items.min() < 1 or items.max() > n_items:
            raise UserError(f"{file}: items must be item_ids 1..{n_items}; {AGAIN}")
        tied = arrays["tied"]
        if tied.dtype != np.bool_ or len(tied) != len(items) or tied[offsets[:-1][np.diff(offsets) > 0]].any():
            raise UserError(f"{file}: tied must say of each item whether it has the time of the one before; {AGAIN}")
        return cls(items, offsets, n_items, tied, _loaded_cuts(arrays, offsets, file))


def _listed(windows: Runs) -> Examples:
    return windows.take(np.arange(len(windows)))


def _loaded_cuts(arrays: Mapping[str, NDArray[Any]], offsets: NDArray[np.int64], file: Path) -> TimeCuts | None:
    names = {field.name for field in fields(TimeCuts)} & arrays.keys()
    if not names:
        return None
    if len(names) < len(fields(TimeCuts)):
        raise UserError(f"{file} must hold all of a split in time or nothing, got {', '.join(sorted(names))}; {AGAIN}")
    train, validation = arrays["train_stops"], arrays["validation_stops"]
    bounds = (offsets[:-1], train, validation, offsets[1:])
    if any(len(each) != len(offsets) - 1 for each in bounds) or any(
        (low > high).any() for low, high in pairwise(bounds)
    ):
        raise UserError(f"{file}: the cuts in time must lie within each user's history, in order; {AGAIN}")
    return TimeCuts(train, validation, bool(arrays["all_targets"]))


def stretches(ends: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Neighbours that have at most so much together, or one that has more; one stretch at least.

    Args:
        ends: (n + 1,), where each begins, and where the last ends.

    Example:
        >>> list(stretches(np.array([0, 1, 2, 7, 8]), 3))
        [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    first, n = 0, len(ends) - 1
    while True:
        last = int(np.searchsorted(ends, ends[first] + most, side="right")) - 1
        last = min(max(last, first + 1), n)
        yield slice(first, last)
        if last == n:
            return
        first = last
