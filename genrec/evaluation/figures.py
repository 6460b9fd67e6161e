"""Ranked items become figures with 95 % bootstrap intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
        ranks: protocol to (n_users,) int32, each target's rank, from which models are compared user by user.
        lists: protocol to (n_users, k) int32, what is recommended, best first; 0 is none.
    """

    values: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval]]
    ranks: dict[str, NDArray[np.int32]] = field(compare=False)
    lists: dict[str, NDArray[np.int32]] = field(compare=False)


def measure(
    ranked: RankedItems,
    counts: NDArray[np.int64],
    ks: Sequence[int],
    n_resamples: int,
    seed: int,
    user_ids: NDArray[np.int64] | None = None,
) -> Figures:
    """Recall, NDCG, MRR, coverage and popularity bias at each k, under each protocol.

    Args:
        counts: (n_items + 1,) training interactions of each item.
        ks: ascending; the lists are at least as long as the last.
        user_ids: (n_targets,), whose each target is; None where no user has two.
    """
    values, intervals, ranks = {}, {}, {}
    recommended = {protocol: lists.int().numpy() for protocol, lists in ranked.lists.items()}
    for protocol, lists in ranked.lists.items():
        of_users = ranks_in_lists(lists, ranked.targets)
        ranks[protocol] = of_users.int().numpy()
        per_user = user_metrics(of_users, ks)
        values[protocol] = {name: float(value.mean()) for name, value in per_user.items()}
        intervals[protocol] = bootstrap_intervals(per_user, n_resamples, seed, user_ids)
        for k in ks:
            values[protocol][f"coverage_at_{k}"] = coverage(lists[:, :k], len(counts) - 1)
            bias = popularity_bias(lists[:, :k], ranked.targets, torch.from_numpy(counts))
            values[protocol][f"popularity_bias_at_{k}"] = bias
    return Figures(values, intervals, ranks, recommended)


def difference_intervals(
    ranks: NDArray[np.int32],
    reference: NDArray[np.int32],
    ks: Sequence[int],
    n_resamples: int,
    seed: int,
    user_ids: NDArray[np.int64] | None = None,
) -> dict[str, tuple[float, float, float]]:
    """How far a model is above another, and the ends of the 95 % interval of that, from the same users drawn for both.

    What two models have in common, such as users who are hard for both, goes out of the difference; their own intervals
    may overlap widely where it is certain.

    Args:
        ranks, reference: (n_users,) each, the ranks of the same targets.

    Returns:
        metric name to (difference, low, high).
    """
    ours, theirs = (user_metrics(torch.from_numpy(of_users).long(), ks) for of_users in (ranks, reference))
    differences = {name: ours[name] - theirs[name] for name in ours}
    ends = bootstrap_intervals(differences, n_resamples, seed, user_ids)
    return {name: (float(value.double().mean()), *ends[name]) for name, value in differences.items()}


def differences(
    ranks: Mapping[str, NDArray[np.int32]],
    references: Callable[[str], Sequence[str]],
    ks: Sequence[int],
    n_resamples: int,
    seed: int,
    user_ids: Mapping[str, NDArray[np.int64]] | None = None,
) -> dict[str, Any]:
    """Compare models user by user.

    Args:
        ranks: `model/split/protocol` to (n_users,).
        references: a model to those that it is compared with, where they were measured on the same split.
        user_ids: split to (n_targets,), whose each target is; None where no user has two.

    Returns:
        model -> reference -> split -> protocol -> metric -> (difference, low, high).
    """
    found: dict[str, Any] = {}
    for name, of_users in ranks.items():
        model, split, protocol = name.split("/")
        for reference in references(model):
            other = ranks.get(f"{reference}/{split}/{protocol}")
            if other is not None:
                drawn = None if user_ids is None else user_ids[split]
                compared = difference_intervals(of_users, other, ks, n_resamples, seed, drawn)
                found.setdefault(model, {}).setdefault(reference, {}).setdefault(split, {})[protocol] = compared
    return found


def pair_differences(
    per_user: Mapping[str, Mapping[str, Tensor]],
    n_resamples: int,
    seed: int,
    user_ids: NDArray[np.int64] | None = None,
) -> dict[str, dict[str, dict[str, tuple[float, float, float]]]]:
    """Every model beside every other as `difference_intervals` does, from one bootstrap for all of them.

    Args:
        per_user: model to metric name to (n_users,) float, of the same users.

    Returns:
        model -> other -> metric -> (difference, low, high); a model has no entry for itself.
    """
    names = list(next(iter(per_user.values()))) if per_user else []
    found: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {model: {} for model in per_user}
    for name in names:
        values = torch.stack([metrics[name] for metrics in per_user.values()]).double().numpy()  # (models, users)
        means, drawn = values.mean(1), bootstrap_means(values, n_resamples, seed, user_ids)
        for i, model in enumerate(per_user):
            low, high = np.percentile(drawn[:, [i]] - drawn, [2.5, 97.5], axis=0)
            for j, other in enumerate(per_user):
                if i != j:
                    ends = (float(means[i] - means[j]), float(low[j]), float(high[j]))
                    found[model].setdefault(other, {})[name] = ends
    return found


def bootstrap_intervals(
    per_user: Mapping[str, Tensor], n_resamples: int, seed: int, user_ids: NDArray[np.int64] | None = None
) -> dict[str, Interval]:
    """The 2.5 and 97.5 percentiles of each mean over targets, users drawn again with replacement.

    The same users are drawn for each metric and, with the same seed, for each model. Whoever has several targets is
    drawn with all of them: they are not independent of each other.

    Args:
        per_user: metric name to (n_targets,) float.
        user_ids: (n_targets,), whose each target is; None where no user has two.
    """
    values = torch.stack(list(per_user.values())).double().numpy()  # (metrics, users)
    low, high = np.percentile(bootstrap_means(values, n_resamples, seed, user_ids), [2.5, 97.5], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(per_user)}


def bootstrap_means(
    values: NDArray[np.float64], n_resamples: int, seed: int, user_ids: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """The means over targets of each sample, (n_resamples, n_rows); all rows share the users that are drawn.

    Args:
        values: (n_rows, n_targets).
        user_ids: (n_targets,), whose each target is; None where no user has two.
    """
    n_targets = np.ones(values.shape[1], np.int64)
    if user_ids is not None:
        _, places = np.unique(user_ids, return_inverse=True)
        values, n_targets = np.stack([np.bincount(places, row) for row in values]), np.bincount(places)
    n_users = len(n_targets)
    random = np.random.default_rng(seed)
    means = []
    for start in range(0, n_resamples, RESAMPLES_AT_ONCE):
        size = (min(RESAMPLES_AT_ONCE, n_resamples - start), n_users)
        drawn = random.integers(0, n_users, size)
        times = np.stack([np.bincount(row, minlength=n_users) for row in drawn])
        means.append(times @ values.T / (times @ n_targets)[:, None])
    return np.concatenate(means)
