"""The baselines that every table prints: popularity, and co-occurrence of items (item KNN)."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor


class Popularity:
    """Every user gets the items of most interactions."""

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self.counts = counts

    @classmethod
    def fit(cls, items: NDArray[np.int32], n_items: int) -> "Popularity":
        """Count the training interactions' item_ids."""
        return cls(np.bincount(items, minlength=n_items + 1))

    def scores(self, history: Tensor) -> Tensor:
        """(batch, n_items + 1) float32, column = item_id."""
        return torch.from_numpy(self.counts).float().expand(len(history), -1)


class ItemKnn:
    """An item scores by how often it stood near the last items of the history."""

    def __init__(self, cooccurrence: sparse.csr_array, history: int) -> None:
        self.cooccurrence = cooccurrence
        self.history = history

    @classmethod
    def fit(
        cls, items: NDArray[np.int32], offsets: NDArray[np.int64], n_items: int, history: int, window: int
    ) -> "ItemKnn":
        """Count the pairs that stand within `window` steps of each other in a user's training interactions.

        Args:
            items, offsets: flat histories, as in `Histories`.
            history: how many of the last items vote.
        """
        users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        pairs = [_pairs(items, users, step) for step in range(1, window + 1)]
        first, second = np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])
        shape = (n_items + 1, n_items + 1)
        counts = sparse.coo_array((np.ones(len(first), np.float32), (first, second)), shape).tocsr()
        return cls(sparse.csr_array(counts + counts.T), history)

    def scores(self, history: Tensor) -> Tensor:
        """(batch, n_items + 1) float32, column = item_id.

        Args:
            history: (batch, length) item_ids, padded with 0 on the right.
        """
        items = history.numpy()
        steps = (items != 0).sum(1, keepdims=True) - 1 - np.arange(self.history)
        last = np.where(steps >= 0, np.take_along_axis(items, np.maximum(steps, 0), axis=1), 0).ravel()
        users = np.repeat(np.arange(len(items)), self.history)
        shape = (len(items), self.cooccurrence.shape[0])
        voters = sparse.coo_array(((last != 0).astype(np.float32), (users, last)), shape).tocsr()
        return torch.from_numpy((voters @ self.cooccurrence).toarray())


def _pairs(
    items: NDArray[np.int32], users: NDArray[np.int64], step: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    same_user = users[:-step] == users[step:]
    return items[:-step][same_user], items[step:][same_user]
