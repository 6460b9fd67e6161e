"""A data set of which some items came later: drawn, left out of training, and known by what is written about them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genrec.errors import UserError
from genrec.sequences.histories import Histories

SHARE = 0.05
LEAST_INTERACTIONS = 4  # of a user who is learned from: two are held out, and one target needs one before it


@dataclass(frozen=True)
class HeldOut:
    """A data set whose new items have the highest item_ids.

    Attributes:
        everything: all interactions, of known and of new items.
        learned: those with known items, of users with enough of them; its n_items is how many are known.
        known, new: the rows of the item table, by item_id.
    """

    everything: Histories
    learned: Histories
    known: pd.DataFrame
    new: pd.DataFrame

    @property
    def n_known(self) -> int:
        return self.learned.n_items

    @classmethod
    def draw(cls, histories: Histories, items: pd.DataFrame, seed: int) -> "HeldOut":
        """Draw `SHARE` of the items, at least one, and give them the item_ids behind all others.

        Args:
            items: a row for each item_id, in their order.

        Raises:
            UserError: the data are split in time, or of some users alone.
        """
        if histories.cuts is not None:
            raise UserError(
                "items are held out of leave-one-out of all users alone; set prepare_data.split: leave_one_out and "
                "held_out_users: 0"
            )
        n_items = histories.n_items
        n_new = max(round(SHARE * n_items), 1)
        new = np.sort(np.random.default_rng(seed).permutation(n_items)[:n_new]) + 1
        known = np.setdiff1d(np.arange(1, n_items + 1), new)
        number = np.zeros(n_items + 1, np.int32)
        number[np.concatenate([known, new])] = np.arange(1, n_items + 1)
        everything = Histories(number[histories.items], histories.offsets, n_items, histories.tied)
        return cls(
            everything,
            _of_known_items(everything, len(known)),
            _rows(items, known, 1),
            _rows(items, new, len(known) + 1),
        )


def _rows(items: pd.DataFrame, item_ids: NDArray[np.integer], first: int) -> pd.DataFrame:
    """Rows of the item table, numbered anew from `first` on."""
    rows = items.iloc[item_ids - 1].reset_index(drop=True)
    numbers = np.arange(first, first + len(rows), dtype=np.int32)
    return rows.assign(item_id=numbers) if "item_id" in rows else rows


def _of_known_items(histories: Histories, n_known: int) -> Histories:
    """Only what was done with known items; what is of one time as its neighbour stays so."""
    kept = histories.items <= n_known
    users = np.repeat(np.arange(histories.n_users), histories.lengths)
    lengths = np.bincount(users[kept], minlength=histories.n_users)
    kept &= (lengths >= LEAST_INTERACTIONS)[users]
    offsets = np.concatenate([[0], np.cumsum(lengths[lengths >= LEAST_INTERACTIONS])])
    tied = None
    if histories.tied is not None:
        time = np.cumsum(~histories.tied)[kept]  # rises with each new time, so none reaches over users
        tied = np.append(False, time[1:] == time[:-1])[: len(time)]
    return Histories(histories.items[kept], offsets, n_known, tied)
