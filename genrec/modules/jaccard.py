"""How different users' lists are: exact over all pairs of users, in blocks of them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

USERS_AT_ONCE = 1024
# how many items two lists share on average, above which most pairs share some: a dense product is faster then
DENSE_OVERLAP = 0.4
GROUPS, BITS_OF_GROUP = 4, 12  # together fewer than the 53 bits of whole numbers that float64 holds exactly


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
    n_users, total = items.shape[0], 0.0
    overlap = np.square(items.sum(0, dtype=np.float64)).sum() / n_users**2
    is_dense = overlap > DENSE_OVERLAP and np.diff(items.indptr).max() < 2**BITS_OF_GROUP
    for start in range(0, n_users, USERS_AT_ONCE):
        stop = start + USERS_AT_ONCE
        similarity_to = (_densely if is_dense else _sparsely)(items[:stop], items[start:stop])
        for first in range(0, start + 1, USERS_AT_ONCE):
            similarity = similarity_to(slice(first, first + USERS_AT_ONCE))
            # within a block each pair stands twice, beside each list with itself, whose similarity is 1
            total += similarity if first < start else (similarity - items[start:stop].shape[0]) / 2
    return total


def _sparsely(before: sp.csr_array, block: sp.csr_array) -> Callable[[slice], float]:
    """The sum of the similarities of some rows of `before` to all of `block`: only those that share an item count."""
    held = np.unique(block.indices)  # no other item can be shared with these lists
    candidates, columns = before[:, held], block[:, held].T.tocsr()
    lengths, others = np.diff(before.indptr), np.diff(block.indptr)

    def similarity_to(rows: slice) -> float:
        shared = candidates[rows] @ columns
        if _is_one(lengths[rows]) and _is_one(others):
            times = np.bincount(shared.data)
            return float(times @ _similarity(np.arange(len(times)), lengths[rows][0] + others[0]))
        total = lengths[rows].repeat(np.diff(shared.indptr)) + others[shared.indices]
        return float(_similarity(shared.data, total).sum())

    return similarity_to


def _densely(before: sp.csr_array, block: sp.csr_array) -> Callable[[slice], float]:
    """The same for lists of which most share items: as digits of one float64, several counts are summed at once."""
    lengths, others = np.diff(before.indptr), np.diff(block.indptr)
    bits = int(lengths.max()).bit_length()
    of_group = np.arange(0, BITS_OF_GROUP - bits + 1, bits)
    shifts = np.concatenate([group * BITS_OF_GROUP + of_group for group in range(GROUPS)])
    held, places = np.unique(block.indices, return_inverse=True)
    # a row for each item that the block holds, and one of zeros for all others
    words, digits = np.divmod(np.arange(len(others)).repeat(others), len(shifts))
    shape = (len(held) + 1, -(-len(others) // len(shifts)))
    columns = sp.coo_array((2.0 ** shifts[digits], (places, words)), shape).toarray()
    row_of_item = np.full(before.shape[1], len(held))
    row_of_item[held] = np.arange(len(held))
    ones = np.ones(before.nnz)
    candidates = sp.csr_array((ones, row_of_item[before.indices], before.indptr), (before.shape[0], len(columns)))
    cells, mask = np.arange(2**BITS_OF_GROUP), 2**bits - 1

    def similarity_to(rows: slice) -> float:
        shared = (candidates[rows] @ columns).astype(np.int64)
        if _is_one(lengths[rows]) and _is_one(others):
            groups = [(shared >> group * BITS_OF_GROUP & len(cells) - 1).ravel() for group in range(GROUPS)]
            times = sum(np.bincount(group, minlength=len(cells)) for group in groups)
            both = cells[:, None] >> of_group & mask
            # no cell with a digit above both lengths ever occurs
            both = both.clip(max=min(lengths[rows][0], others[0]))
            return float(times @ _similarity(both, lengths[rows][0] + others[0]).sum(1))
        both = (shared[..., None] >> shifts & mask).reshape(len(shared), -1)[:, : len(others)]
        return float(_similarity(both, lengths[rows][:, None] + others).sum())

    return similarity_to


def _similarity(both: NDArray[Any], total: NDArray[Any]) -> NDArray[np.float64]:
    """Of lists that share so many items and have so many together."""
    similarity: NDArray[np.float64] = both / (total - both)
    return similarity


def _is_one(lengths: NDArray[Any]) -> bool:
    return bool(lengths[0] == lengths[-1])  # they are sorted
