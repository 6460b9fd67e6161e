"""How often items stood near each other, counted some rows of the table after another, so that it needs no more memory.

Letters: r rows of the items that are asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from tqdm import tqdm

from genrec.sequences.histories import Histories, stretches

PAIRS_AT_ONCE = 1 << 25  # of whose ends one is a row that is counted, before equal ones are summed
SHOWN_AFTER = 3  # seconds, where there is a terminal


@dataclass(frozen=True)
class PairCounts:
    """The sum of 1 / steps over all pairs of a user within some steps, of some items.

    Attributes:
        ahead: (r, n_items + 1) float32, row = the earlier item.
        behind: (r, n_items + 1) float32, row = the later item.
    """

    ahead: sparse.csr_array
    behind: sparse.csr_array

    def __add__(self, other: "PairCounts") -> "PairCounts":
        return PairCounts(self.ahead + other.ahead, self.behind + other.behind)

    def weighed(self, backward: float, power: float) -> sparse.csr_array:
        """Both together, pairs against the order of time with a weight; each row divided by its sum to a power."""
        return normalised(self.ahead + backward * self.behind, power)


@dataclass(frozen=True)
class PairCounter:
    """Counts the pairs within `window` steps.

    Attributes:
        blocks: gives the histories, one part after another, anew each time; a user's is in one part.
    """

    blocks: Callable[[], Iterable[Histories]]
    n_items: int
    window: int

    def of_items(self, asked: NDArray[np.int64]) -> Iterator[PairCounts]:
        """Those of some items, ascending, a stretch of them after another, each of bounded size or of one item."""
        ends = np.concatenate([[0], np.cumsum(self.n_pairs[asked])])
        parts = list(stretches(ends, PAIRS_AT_ONCE))
        for rows in tqdm(parts, desc="items", unit="part", delay=SHOWN_AFTER, disable=None, leave=False):
            place = np.full(self.n_items + 1, -1, np.int32)
            place[asked[rows]] = np.arange(rows.stop - rows.start)
            yield reduce(PairCounts.__add__, (self._of_block(block, place) for block in self.blocks()))

    @cached_property
    def n_pairs(self) -> NDArray[np.int64]:
        """int64 (n_items + 1,), of how many pairs each item is an end: no row has more entries."""
        total = np.zeros(self.n_items + 1, np.int64)
        for block in self.blocks():
            for step, same_user in self._steps(block):
                for ends in (block.items[:-step], block.items[step:]):
                    total += np.bincount(ends[same_user], minlength=len(total))
        return total

    def _of_block(self, block: Histories, place: NDArray[np.int32]) -> PairCounts:
        """Of one part; `place` is each item's row, -1 where it has none."""
        shape = (int(place.max(initial=-1)) + 1, self.n_items + 1)
        ahead, behind = sparse.csr_array(shape, dtype=np.float32), sparse.csr_array(shape, dtype=np.float32)
        items, rows = block.items, place[block.items]
        for step, same_user in self._steps(block):
            ahead += _summed(rows[:-step], items[step:], same_user, step, shape)
            behind += _summed(rows[step:], items[:-step], same_user, step, shape)
        return PairCounts(ahead, behind)

    def _steps(self, block: Histories) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """For each number of steps, whether the item that stands so many later is of the same user."""
        users = np.repeat(np.arange(block.n_users, dtype=np.int32), np.diff(block.offsets))
        for step in range(1, self.window + 1):
            yield step, users[:-step] == users[step:]


def normalised(counts: sparse.csr_array, power: float) -> sparse.csr_array:
    """Each row divided by its sum to a power; rows without entries stay empty."""
    sums = np.asarray(counts.sum(axis=1)).ravel()
    inverse = np.divide(1, sums**power, out=np.zeros_like(sums), where=sums > 0)
    return sparse.csr_array(sparse.diags_array(inverse) @ counts)


def _summed(
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    same_user: NDArray[np.bool_],
    step: int,
    shape: tuple[int, int],
) -> sparse.csr_array:
    """In each cell 1 / step as often as it is one user's; a row of -1 is none."""
    counted = same_user & (rows >= 0)
    cells = rows[counted], columns[counted]
    return sparse.coo_array((np.full(len(cells[0]), 1 / step, np.float32), cells), shape).tocsr()
