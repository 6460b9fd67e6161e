"""The measures of whole lists, of each model on the same test, with 95 % intervals where they are means over lists."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from genrec.evaluation.figures import bootstrap_intervals
from genrec.evaluation.list_measures import (
    code_diversity,
    gini,
    miscalibration,
    novelty,
    serendipity,
    word_diversity,
)
from genrec.sequences.histories import Histories


@dataclass(frozen=True)
class ListMeasurer:
    """What the lists of the test are measured by.

    Attributes:
        codes: (n_items + 1, num_levels), row = item_id; without the collision code, which says nothing of an item.
        words: bool (n_items + 1, n_words); None where nothing is said of items.
        categories: bool (n_items + 1, n_categories); None where items have none.
        n_resamples, seed: of the bootstrap.
    """

    histories: Histories
    codes: NDArray[np.int32]
    words: sparse.csr_array | None
    categories: sparse.csr_array | None
    n_resamples: int
    seed: int

    def figures(self, lists: NDArray[np.int32]) -> dict[str, dict[str, float]]:
        """Each measure that the data have: `value`, and `low` and `high` of its interval.

        Args:
            lists: (n_targets, k) item_ids, best first, 0 where a list is short.
        """
        per_list = {
            "novelty": novelty(lists, self._n_takers, self._n_users),
            "code_diversity": code_diversity(lists, self.codes),
            "serendipity": serendipity(lists, self._targets, self._counts),
        }
        if self.words is not None:
            per_list["word_diversity"] = word_diversity(lists, self.words)
        if self.categories is not None:
            per_list["miscalibration"] = miscalibration(lists, self._taken, self.categories)
        k = lists.shape[1]
        means = {f"{name}_at_{k}": self._mean(values) for name, values in per_list.items()}
        means[f"gini_at_{k}"] = {"value": gini(lists, self.histories.n_items)}
        return {name: each for name, each in means.items() if each}

    def _mean(self, values: NDArray[np.float64]) -> dict[str, float]:
        """Over the lists that have a value; nothing where none has."""
        there = ~np.isnan(values)
        if not there.any():
            return {}
        known = {"value": torch.from_numpy(values[there])}
        (low, high) = bootstrap_intervals(known, self.n_resamples, self.seed, self._user_ids[there])["value"]
        return {"value": float(values[there].mean()), "low": low, "high": high}

    @cached_property
    def _user_ids(self) -> NDArray[np.int64]:
        return self.histories.users_of(self.histories.examples("test"))

    @cached_property
    def _targets(self) -> NDArray[np.int32]:
        return self.histories.targets(self.histories.examples("test"))

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """(n_items + 1,) training interactions."""
        return self.histories.train_counts()

    @cached_property
    def _n_users(self) -> int:
        return int((self.histories.train_lengths > 0).sum())

    @cached_property
    def _n_takers(self) -> NDArray[np.int64]:
        """(n_items + 1,) users of the training who took each item."""
        size = self.histories.n_items + 1
        n_takers = np.zeros(size, np.int64)
        for part in self.histories.train_blocks():
            users = np.repeat(np.arange(part.n_users), part.lengths)
            n_takers += np.bincount(np.unique(users * size + part.items) % size, minlength=size)
        return n_takers

    @cached_property
    def _taken(self) -> sparse.csr_array:
        """(n_targets, n_items + 1): how often an item stands before the target."""
        examples = self.histories.examples("test")
        starts = np.concatenate([[0], np.cumsum(examples.lengths)])
        rows = np.repeat(np.arange(len(examples)), examples.lengths)
        places = np.arange(starts[-1]) - starts[rows] + examples.starts[rows]
        shape = (len(examples), self.histories.n_items + 1)
        return sparse.coo_array((np.ones(len(rows)), (rows, self.histories.items[places])), shape).tocsr()
