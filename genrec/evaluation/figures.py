"""Ranked items become figures with 95 % bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.evaluation.measures import coverage, popularity_bias, user_metrics
from genrec.retrieval.ranking import RankedItems
from genrec.retrieval.ranks import ranks_in_lists

RESAMPLES_AT_ONCE = 64

Interval = tuple[float, float]


@dataclass(frozen=True)
class Figures:
    """What a model reached on one split.

    Attributes:
        values: protocol to metric name to value.
        intervals: protocol to metric name to the ends of its 95 % interval; only metrics that are means over users.
    """

    values: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval]]


def measure(ranked: RankedItems, counts: NDArray[np.int64], ks: Sequence[int], n_resamples: int, seed: int) -> Figures:
    """Recall, NDCG, MRR, coverage and popularity bias at each k, under each protocol.

    Args:
        counts: (n_items + 1,) training interactions of each item.
        ks: ascending; the lists are at least as long as the last.
    """
    values, intervals = {}, {}
    for protocol, lists in ranked.lists.items():
        per_user = user_metrics(ranks_in_lists(lists, ranked.targets), ks)
        values[protocol] = {name: float(value.mean()) for name, value in per_user.items()}
        intervals[protocol] = bootstrap_intervals(per_user, n_resamples, seed)
        for k in ks:
            values[protocol][f"coverage_at_{k}"] = coverage(lists[:, :k], len(counts) - 1)
            bias = popularity_bias(lists[:, :k], ranked.targets, torch.from_numpy(counts))
            values[protocol][f"popularity_bias_at_{k}"] = bias
    return Figures(values, intervals)


def bootstrap_intervals(per_user: Mapping[str, Tensor], n_resamples: int, seed: int) -> dict[str, Interval]:
    """The 2.5 and 97.5 percentiles of each mean over users, drawn again with replacement.

    The same users are drawn for each metric and, with the same seed, for each model.

    Args:
        per_user: metric name to (n_users,) float.
    """
    values = torch.stack(list(per_user.values())).double().numpy()  # (metrics, users)
    n_users = values.shape[1]
    random = np.random.default_rng(seed)
    means = []
    for start in range(0, n_resamples, RESAMPLES_AT_ONCE):
        size = (min(RESAMPLES_AT_ONCE, n_resamples - start), n_users)
        drawn = random.integers(0, n_users, size)
        times = np.stack([np.bincount(row, minlength=n_users) for row in drawn])
        means.append(times @ values.T / n_users)
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(per_user)}
