"""What results.json holds beyond each evaluation's own figures: groups of users, all pairs of models, shared hits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.evaluation.figures import pair_differences
from genrec.evaluation.measures import user_metrics
from genrec.evaluation.slices import (
    Groups,
    by_history_length,
    by_item_age,
    by_item_frequency,
    by_new_item,
    by_new_user,
    by_transition,
    overlap,
    sliced_recall,
)
from genrec.sequences.histories import Histories


def groups_of_users(histories: Histories, times: NDArray[np.int64] | None) -> dict[str, Groups]:
    """The partitions of the test's users, by name; by age only where times are known, by what is new where any is."""
    new = {"by_new_user": by_new_user(histories), "by_new_item": by_new_item(histories)}
    groups = {
        "by_item_frequency": by_item_frequency(histories),
        "by_history_length": by_history_length(histories),
        "by_transition": by_transition(histories),
        **{name: each for name, each in new.items() if each.of_users.any()},
    }
    return groups if times is None else {**groups, "by_item_age": by_item_age(histories, times)}


def comparisons(
    ranks: Mapping[str, NDArray[np.int32]],
    groups: Mapping[str, Groups],
    k: int,
    n_resamples: int,
    seed: int,
    user_ids: NDArray[np.int64] | None = None,
) -> dict[str, dict[str, Any]]:
    """What the models are beside each other, on the test with the history excluded.

    Args:
        ranks: model to (n_users,).
        user_ids: whose each target is, where users have several of them.

    Returns:
        model to `slices` (partition to groups, of recall at k), `pairs` (other model to metric to difference, low,
        high) and `overlap` (other model to the share of this one's hits within k that it hits too).
    """
    metrics = {model: user_metrics(torch.from_numpy(of_users).long(), [k]) for model, of_users in ranks.items()}
    wanted = (f"recall_at_{k}", f"ndcg_at_{k}")
    pairs = pair_differences(
        {model: {name: of[name] for name in wanted} for model, of in metrics.items()}, n_resamples, seed, user_ids
    )
    shared = overlap(ranks, k)
    return {
        model: {
            "slices": {name: sliced_recall(of_users, partition, k, user_ids) for name, partition in groups.items()},
            "pairs": pairs[model],
            "overlap": shared[model],
        }
        for model, of_users in ranks.items()
    }
