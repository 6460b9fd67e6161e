"""Metrics of ranked lists of items against the sets of items that users really took."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genrec.evaluation.measures import coverage
from genrec.modules.jaccard import diversity
from genrec.retrieval.ranks import discounted_gain

Lists = Sequence[Sequence[int]]


class RecommendationMetrics:
    """Recall, precision, NDCG, hit rate, coverage and diversity of `predictions[user]`, item ids, best first.

    The first four compare with `targets[user]`, the relevant items in any order, and are means over the users who have
    any; 0.0 where nobody has. An item that stands twice in a list counts where it stands first.

    Example:
        >>> predictions, targets = [[1, 2, 3], [7, 8, 9]], [[3], [7, 5]]
        >>> RecommendationMetrics.recall_at_k(predictions, targets, k=3)  # 1 of 1, 1 of 2
        0.75
        >>> RecommendationMetrics.ndcg_at_k(predictions, targets, k=1)
        0.5
    """

    @staticmethod
    def recall_at_k(predictions: Lists, targets: Lists, k: int) -> float:
        """The share of a user's relevant items that stand among the first k."""
        hits = _find(predictions, targets, k)
        return _mean(hits.n_found / hits.n_relevant)

    @staticmethod
    def precision_at_k(predictions: Lists, targets: Lists, k: int) -> float:
        """The share of the first k places that hold a relevant item; places that a short list leaves empty do not."""
        hits = _find(predictions, targets, k)
        return _mean(hits.n_found / k) if k else 0.0

    @staticmethod
    def ndcg_at_k(predictions: Lists, targets: Lists, k: int) -> float:
        """The sum of 1 / log2(1 + rank) of the relevant items among the first k, over the most it could be."""
        hits = _find(predictions, targets, k)
        if k == 0:
            return 0.0
        most = hits.n_relevant.clamp_max(k)
        ideal = discounted_gain(torch.arange(1, k + 1), k, torch.float64).cumsum(0)
        return _mean(hits.gain / ideal[most - 1])

    @staticmethod
    def hit_rate_at_k(predictions: Lists, targets: Lists, k: int) -> float:
        """The share of users with a relevant item among the first k."""
        return _mean((_find(predictions, targets, k).n_found > 0).double())

    @staticmethod
    def coverage(predictions: Lists, total_items: int) -> float:
        """The share of a catalogue of total_items that somebody is recommended.

        Example:
            >>> RecommendationMetrics.coverage([[1, 2], [2, 3]], total_items=6)
            0.5
        """
        lists = _numbered(predictions)
        n_recommended = int(lists.max()) if lists.numel() else 0
        if total_items < max(n_recommended, 1):
            raise ValueError(
                f"total_items must be the size of the catalogue, got {total_items} where {n_recommended} different "
                "items are recommended"
            )
        return coverage(lists, total_items)

    @staticmethod
    def diversity(predictions: Lists) -> float:
        """The mean Jaccard distance of two users' lists over all pairs; see `genrec.modules.diversity`.

        Example:
            >>> RecommendationMetrics.diversity([[1, 2, 3], [4, 3, 2]])  # 2 items of 4 are in both
            0.5
        """
        return diversity(_numbered(predictions))


class _Hits(NamedTuple):
    """Of each user who has relevant items, (n_users,) each.

    Attributes:
        n_relevant, n_found: how many, and how many of them among the first k.
        gain: the sum of what those bring.
    """

    n_relevant: Tensor
    n_found: Tensor
    gain: Tensor


def _find(predictions: Lists, targets: Lists, k: int) -> _Hits:
    if len(predictions) != len(targets):
        raise ValueError(
            f"predictions and targets must have a list for each user, got {len(predictions)} and {len(targets)} lists"
        )
    if k < 0:
        raise ValueError(f"k must not be negative, got {k}")
    ranks, users = _ranks(predictions, targets)
    _, users, n_relevant = users.unique(return_inverse=True, return_counts=True)
    zeros = torch.zeros(len(n_relevant), dtype=torch.float64)
    n_found = zeros.index_add(0, users, (ranks <= k).double())
    return _Hits(n_relevant, n_found, zeros.index_add(0, users, discounted_gain(ranks, k, torch.float64)))


def _ranks(predictions: Lists, targets: Lists) -> tuple[Tensor, Tensor]:
    """The first rank of each different relevant item in its user's list, and that user, (n_relevant_items,) each.

    1 is the first place; an item that the list does not hold ranks below all k.
    """
    predicted, lengths = _flat(predictions)
    relevant, n_relevant = _flat(targets)
    different, codes = torch.cat([predicted, relevant]).unique(return_inverse=True)
    # a user and an item in one number, so that one search finds all
    predicted_keys = codes[: len(predicted)] + _owners(lengths) * len(different)
    relevant_keys = (codes[len(predicted) :] + _owners(n_relevant) * len(different)).unique()
    users = relevant_keys // max(len(different), 1)
    if len(predicted) == 0:
        return torch.full_like(users, torch.iinfo(torch.int64).max), users
    ordered, order = predicted_keys.sort(stable=True)
    found = torch.searchsorted(ordered, relevant_keys).clamp_max(len(ordered) - 1)
    starts = lengths.cumsum(0) - lengths
    ranks = order[found] - starts[users] + 1
    return torch.where(ordered[found] == relevant_keys, ranks, torch.iinfo(torch.int64).max), users


def _flat(lists: Lists) -> tuple[Tensor, Tensor]:
    """All items in one row, and the length of each list, both int64."""
    lengths = torch.tensor([len(items) for items in lists], dtype=torch.int64)
    items = np.fromiter(chain.from_iterable(lists), dtype=np.int64, count=int(lengths.sum()))
    return torch.from_numpy(items), lengths


def _owners(lengths: Tensor) -> Tensor:
    """The list that each place of the row belongs to."""
    return torch.arange(len(lengths)).repeat_interleave(lengths)


def _numbered(lists: Lists) -> Tensor:
    """The lists as (n_users, longest), items numbered from 1, since any int may be an item here; 0 is none."""
    items, lengths = _flat(lists)
    places = torch.arange(int(lengths.max())) < lengths[:, None] if len(lengths) else torch.zeros(0, 0).bool()
    numbered = torch.zeros(places.shape, dtype=torch.int64)
    numbered[places] = items.unique(return_inverse=True)[1] + 1
    return numbered


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
