"""Users' histories as two flat arrays, and the examples that leave-one-out cuts from them, all by whole-array indexing.

An example is a window `items[start:end]` and its target `items[end]`; no history is ever copied until a batch needs it.

    user with n interactions   i_0 ... i_{n-4}  i_{n-3}  i_{n-2}  i_{n-1}
    train                      every prefix of i_0 .. i_{n-3} with its next item
    validation                 i_0 .. i_{n-3}  ->  i_{n-2}
    test                       i_0 .. i_{n-2}  ->  i_{n-1}
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from genrec.errors import UserError
from genrec.storage.files import load_arrays, save_arrays

AGAIN = "run `dvc repro -f prepare_data`"

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
EVALUATED_SPLITS: tuple[Split, ...] = ("validation", "test")


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
class Histories:
    """All interactions, users one after another, each oldest first.

    Attributes:
        items: int32 (n_interactions,), item_ids 1..n_items.
        offsets: int64 (n_users + 1,); the user with user_id u owns items[offsets[u - 1] : offsets[u]].
        n_items: the size of the catalogue, padding not counted.
        tied: bool (n_interactions,), whether the order of an interaction and the user's one before is arbitrary, as
            both have one time; None where all order is given.
    """

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    n_items: int
    tied: NDArray[np.bool_] | None = None

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def examples(self, split: Split) -> Examples:
        """Leave-one-out: the last interaction is tested, the last but one validates, the rest trains.

        For train there is an example for each target i_1 .. i_{n-3}; validation and test have one for each user,
        in the order of user_ids.

        Example:
            >>> histories = Histories(np.array([1, 2, 3, 4, 5], np.int32), np.array([0, 5]), n_items=5)
            >>> [histories.examples(split).ends.tolist() for split in SPLITS]
            [[1, 2], [3], [4]]
        """
        starts, stops = self.offsets[:-1], self.offsets[1:]
        if split == "test":
            return Examples(starts, stops - 1)
        if split == "validation":
            return Examples(starts, stops - 2)
        n_targets = np.maximum(self.lengths - 3, 0)
        users = np.repeat(np.arange(self.n_users), n_targets)
        first = np.repeat(np.cumsum(n_targets) - n_targets, n_targets)
        return Examples(starts[users], starts[users] + 1 + np.arange(n_targets.sum()) - first)

    def train_part(self) -> "Histories":
        """What models may learn from: each user without the two held-out interactions."""
        kept = np.maximum(self.lengths - 2, 0)
        offsets = np.concatenate([[0], np.cumsum(kept)])
        positions = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1] - offsets[:-1], kept)
        return Histories(
            self.items[positions], offsets, self.n_items, None if self.tied is None else self.tied[positions]
        )

    def with_held_out_in_place(self) -> "Histories":
        """The same, with the two interactions of each user that are held out tied to none: their order is kept."""
        if self.tied is None:
            return self
        tied, ends = self.tied.copy(), self.offsets[1:]
        for back in (1, 2):
            tied[(ends - back)[self.lengths >= back]] = False
        return Histories(self.items, self.offsets, self.n_items, tied)

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
        time = np.cumsum(~self.tied)[rows]  # rises with each new time, so no group reaches over users
        items = self.items.copy()
        # numpy's, whose seed is an argument
        order = np.lexsort((random.random(len(rows)), time))  # nosec B311
        items[rows] = items[rows[order]]
        return Histories(items, self.offsets, self.n_items, self.tied)

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
        save_arrays({"items": items, "offsets": offsets, "tied": tied, "n_items": np.array(self.n_items)}, file)

    @classmethod
    def load(cls, file: Path) -> "Histories":
        """Read what `save` wrote: a .npz with `items`, `offsets`, `tied` and `n_items`.

        Raises:
            UserError: the file is missing or damaged, or its arrays do not fit each other.
        """
        arrays = load_arrays(file)
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
        return cls(items, offsets, n_items, tied)
