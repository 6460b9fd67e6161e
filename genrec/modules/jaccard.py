"""How different users' lists are: exact over all pairs of users, in blocks of them."""

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

USERS_AT_ONCE = 1024
# how many items two lists share on average, above which most pairs share some: a dense product is faster then
DENSE_OVERLAP = 0.4


def diversity(lists: Tensor) -> float:
    """How different the lists of two users are on average: the mean Jaccard distance over all pairs of users.

    All pairs are counted, block by block; pairs of two empty lists say nothing and are left out. 0 where no pair is
    left.

    Args:
        lists: (n_users, k) int item_ids; 0 is none.

    Example:
        >>> import torch
        >>> diversity(torch.tensor([[1, 2, 3], [4, 3, 2]]))  # 2 items of 4 are in both
        0.5
    """
    n_empty = int((lists == 0).all(1).sum())
    n_pairs = math.comb(len(lists), 2) - math.comb(n_empty, 2)
    return 1 - _similarity_of_all_pairs(_memberships(lists.cpu())) / n_pairs if n_pairs else 0.0


def _memberships(lists: Tensor) -> sp.csr_array:
    """(lists with items, different items), 1 where a list holds an item, in the smallest type that can count a list."""
    is_item = lists != 0
    _, rows = is_item.nonzero()[:, 0].unique(return_inverse=True)
    _, columns = lists[is_item].unique(return_inverse=True)
    ones = np.ones(len(rows), np.min_scalar_type(lists.shape[1]))
    memberships = sp.csr_array((ones, (rows.numpy(), columns.numpy())))
    memberships.data[:] = 1  # an item that stands twice in a list was summed
    return memberships


def _similarity_of_all_pairs(items: sp.csr_array) -> float:
    """The sum of the Jaccard similarities over all pairs of rows."""
    items = items[np.diff(items.indptr).argsort()]  # so that most blocks hold lists of one length
    lengths, n_users, total = np.diff(items.indptr), items.shape[0], 0.0
    is_dense = np.square(items.sum(0, dtype=np.float64)).sum() > DENSE_OVERLAP * n_users**2
    for start in range(0, n_users, USERS_AT_ONCE):
        stop = start + USERS_AT_ONCE
        held = np.unique(items[start:stop].indices)  # no other item can be shared with these lists
        block, before = items[start:stop, held], items[:stop, held]
        columns = np.ascontiguousarray(block.toarray().T) if is_dense else block.T.tocsr()
        for first in range(0, start + 1, USERS_AT_ONCE):
            rows = slice(first, first + USERS_AT_ONCE)
            similarity = _similarity(before[rows] @ columns, lengths[rows], lengths[start:stop])
            # within a block each pair stands twice, beside each list with itself, whose similarity is 1
            total += similarity if first < start else (similarity - block.shape[0]) / 2
    return total


def _similarity(shared: NDArray[Any] | sp.csr_array, rows: NDArray[Any], columns: NDArray[Any]) -> float:
    """The sum of the Jaccard similarities of lists that share so many items and are so long."""
    both = shared.ravel() if isinstance(shared, np.ndarray) else shared.data
    if rows[0] == rows[-1] and columns[0] == columns[-1]:
        times = _counted(both)[: min(rows[0], columns[0]) + 1]
        both = np.arange(len(times))
        return float((times * both / (rows[0] + columns[0] - both)).sum())
    if isinstance(shared, np.ndarray):
        total = (rows[:, None] + columns).ravel()
    else:
        total = rows.repeat(np.diff(shared.indptr)) + columns[shared.indices]
    return float((both / (total - both)).sum())


def _counted(values: NDArray[Any]) -> NDArray[np.int64]:
    """How often each number occurs: bytes two at a time, which halves the time of the whole."""
    if values.dtype == np.uint8 and len(values) % 2 == 0:
        pairs = np.bincount(values.view(np.uint16), minlength=2**16).reshape(256, 256)
        return pairs.sum(0) + pairs.sum(1)
    return np.bincount(values)
