"""What people choose a recommender by beyond accuracy: measures of whole lists, and of all lists together.

Letters: n lists, k places of a list. An item_id of 0 is no item: a list may be short.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Lists = NDArray[np.int32]
PerList = NDArray[np.float64]

CALIBRATION_SMOOTHING = 0.01  # alpha of Steck 2018
LISTS_AT_ONCE = 4096  # of which the categories are held in memory


def novelty(lists: Lists, n_takers: NDArray[np.int64], n_users: int) -> PerList:
    """How unknown the items of a list are: the mean of log2(n_users / takers of the item), in bits.

    The self-information of Zhou et al. 2010 (PNAS 107, "Solving the apparent diversity-accuracy dilemma"), which
    others call mean inverse user frequency. An item that nobody took counts as one that one user took.

    Args:
        lists: (n, k).
        n_takers: (n_items + 1,), how many users took an item in training.
        n_users: of the training.

    Returns:
        (n,), 0 for an empty list.

    Example:
        >>> novelty(np.array([[1, 2], [2, 0]]), np.array([0, 4, 1]), n_users=8).tolist()
        [2.0, 3.0]
    """
    information = np.log2(n_users / np.maximum(n_takers, 1))
    return _mean(information[lists], lists != 0)


def code_diversity(lists: Lists, codes: NDArray[np.int32]) -> PerList:
    """How unlike the items of a list are by their codes: of two items, the share of levels with different codes.

    The mean over all pairs of a list, as Ziegler et al. 2005 (WWW, "Improving recommendation lists through topic
    diversification") have it of likeness, equation 7; here 1 is all different.

    Args:
        lists: (n, k).
        codes: (n_items + 1, num_levels), row = item_id.

    Returns:
        (n,), 0 for a list of fewer than two items.

    Example:
        >>> code_diversity(np.array([[1, 2, 3]]), np.array([[-1, -1], [0, 0], [0, 1], [2, 3]])).round(4).tolist()
        [0.8333]
    """
    return _mean_over_pairs(lists, lambda first, second: (codes[first] != codes[second]).mean(axis=1))


def word_diversity(lists: Lists, words: sparse.csr_array) -> PerList:
    """How unlike the items of a list are by their words: of two items, 1 minus the words of both over those of either.

    The mean over all pairs of a list, as `code_diversity`, of Jaccard's distance; two items without words are alike.

    Args:
        lists: (n, k).
        words: bool (n_items + 1, n_words), row = item_id.

    Returns:
        (n,), 0 for a list of fewer than two items.

    Example:
        >>> words = sparse.csr_array(np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1]], bool))
        >>> word_diversity(np.array([[1, 2]]), words).round(4).tolist()
        [0.6667]
    """
    counts = words.astype(np.int32)
    n_words = np.asarray(counts.sum(axis=1)).ravel()

    def distance(first: Lists, second: Lists) -> PerList:
        shared = np.asarray(counts[first].multiply(counts[second]).sum(axis=1)).ravel()
        either = n_words[first] + n_words[second] - shared
        return np.where(either > 0, 1 - shared / np.maximum(either, 1), 0.0)

    return _mean_over_pairs(lists, distance)


def serendipity(lists: Lists, targets: NDArray[np.int32], counts: NDArray[np.int64]) -> PerList:
    """How far the list found the target by more than its popularity.

    Of an item at place r of n_items, 1 - (r - 1) / n_items is how sure the model is of it for this user, and with
    its place by popularity for anybody: what is above that, and right, is serendipity; the sum over the list over k.
    After Ge et al. 2010 (RecSys, "Beyond accuracy", unexpected and useful), in RecTools' form: items of one count
    share a place by popularity, of what nobody took in training anybody's certainty is 0.

    Args:
        lists: (n, k).
        targets: (n,) item_ids.
        counts: (n_items + 1,) training interactions of each item.

    Returns:
        (n,), 0 where the target is not in the list.

    Example:
        >>> serendipity(np.array([[2, 1], [1, 2]]), np.array([2, 2]), np.array([0, 9, 3, 0, 0])).tolist()
        [0.125, 0.0]
    """
    n_items, k = len(counts) - 1, lists.shape[1]
    taken = np.unique(counts[1:])[::-1]
    by_popularity = np.searchsorted(-taken, -counts) + 1
    anybody = np.where(counts > 0, (n_items + 1 - by_popularity) / n_items, 0.0)
    this_user = (n_items - np.arange(k)) / n_items
    is_target = (lists == targets[:, None]) & (lists != 0)
    above: PerList = np.where(is_target, np.maximum(this_user - anybody[lists], 0), 0.0).sum(axis=1) / k
    return above


def gini(lists: Lists, n_items: int) -> float:
    """How unequally items are recommended: 0, all as often, to 1 - 1 / n_items, one alone.

    The index of Gini 1912 over all items of the catalogue; of recommendations Fleder and Hosanagar 2009 (Management
    Science 55, "Blockbuster culture's next rise or fall"). 0 where nothing is recommended.

    Example:
        >>> gini(np.array([[1], [1], [1], [2]]), n_items=4)
        0.625
    """
    counts = np.sort(np.bincount(lists[lists != 0], minlength=n_items + 1)[1:])
    total = counts.sum()
    places = np.arange(1, n_items + 1)
    return float(((2 * places - n_items - 1) * counts).sum() / (n_items * total)) if total else 0.0


def miscalibration(lists: Lists, history: sparse.csr_array, categories: sparse.csr_array) -> PerList:
    """How far the categories of a list are from those of the user's history: their divergence, in nats; 0 is the same.

    Steck 2018 (RecSys, "Calibrated recommendations"), equations 2 to 7: an item's mass is spread evenly over its
    categories, a history's and a list's are means over their items, and the divergence is Kullback and Leibler's of
    the history's p from the list's q, smoothed as (1 - alpha) q + alpha p with alpha = 0.01.

    Args:
        lists: (n, k).
        history: (n, n_items + 1), how often an item stands in the history.
        categories: bool (n_items + 1, n_categories), row = item_id.

    Returns:
        (n,), NaN where the history or the list has no item with a category.

    Example:
        >>> categories = sparse.csr_array(np.array([[0, 0], [1, 0], [0, 1], [1, 1]], bool))
        >>> history = sparse.csr_array(np.array([[0, 1, 1, 0], [0, 1, 0, 0]]))
        >>> miscalibration(np.array([[3, 3], [2, 2]]), history, categories).round(4).tolist()
        [0.0, 4.6052]
    """
    n_of_item = np.asarray(categories.sum(axis=1)).ravel()
    spread = sparse.csr_array(sparse.diags_array(1 / np.maximum(n_of_item, 1)) @ categories.astype(np.float64))
    parts = [slice(start, start + LISTS_AT_ONCE) for start in range(0, len(lists), LISTS_AT_ONCE)]
    return np.concatenate([_divergence(lists[part], history[part], spread) for part in parts])


def _divergence(lists: Lists, history: sparse.csr_array, spread: sparse.csr_array) -> PerList:
    rows, places = lists.nonzero()
    listed = sparse.coo_array((np.ones(len(rows)), (rows, lists[rows, places])), history.shape).tocsr()
    wanted, given = _shares(history @ spread), _shares(listed @ spread)
    smoothed = (1 - CALIBRATION_SMOOTHING) * given + CALIBRATION_SMOOTHING * wanted
    there = wanted > 0
    terms = np.where(there, wanted * np.log(np.where(there, wanted, 1) / np.where(there, smoothed, 1)), 0)
    divergence: PerList = np.where(wanted.any(axis=1) & given.any(axis=1), terms.sum(axis=1), np.nan)
    return divergence


def _shares(mass: sparse.csr_array) -> PerList:
    """Rows divided by their sums; rows of nothing stay so."""
    dense: PerList = mass.toarray()
    sums = dense.sum(axis=1, keepdims=True)
    return dense / np.where(sums > 0, sums, 1)


def _mean(values: PerList, there: NDArray[np.bool_]) -> PerList:
    found: PerList = np.where(there, values, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return found


def _mean_over_pairs(lists: Lists, distance: Callable[[Lists, Lists], PerList]) -> PerList:
    """The mean distance of two items of a list."""
    total, n_pairs = np.zeros(len(lists)), np.zeros(len(lists), np.int64)
    for i, j in combinations(range(lists.shape[1]), 2):
        there = (lists[:, i] != 0) & (lists[:, j] != 0)
        total += np.where(there, distance(lists[:, i], lists[:, j]), 0)
        n_pairs += there
    return total / np.maximum(n_pairs, 1)
