"""Metrics of ranked items: one value a user from the rank of the one relevant item, one of the catalogue from lists."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from genrec.retrieval.ranks import discounted_gain


def user_metrics(ranks: Tensor, ks: Sequence[int]) -> Mapping[str, Tensor]:
    """Recall, NDCG and MRR at each k, for each user.

    Args:
        ranks: (n_users,) int, 1 = first; above the largest k where the item was not listed.

    Returns:
        name to (n_users,) float32, such as `recall_at_10`.

    Example:
        >>> {name: value.tolist() for name, value in user_metrics(torch.tensor([1, 3]), [2]).items()}
        {'recall_at_2': [1.0, 0.0], 'ndcg_at_2': [1.0, 0.0], 'mrr_at_2': [1.0, 0.0]}
    """
    metrics = {}
    for k in ks:
        metrics[f"recall_at_{k}"] = (ranks <= k).float()
        metrics[f"ndcg_at_{k}"] = discounted_gain(ranks, k)
        metrics[f"mrr_at_{k}"] = torch.where(ranks <= k, 1 / ranks.float(), 0.0)
    return metrics


def coverage(lists: Tensor, n_items: int) -> float:
    """The share of the catalogue that somebody is recommended.

    Args:
        lists: (n_users, k) int item_ids; 0 is none.

    Example:
        >>> coverage(torch.tensor([[1, 2], [2, 0]]), n_items=4)
        0.5
    """
    return len(lists[lists != 0].unique()) / n_items


def popularity_bias(lists: Tensor, targets: Tensor, counts: Tensor) -> float:
    """How popular the recommended items are, beside those that users really took next: 1 is as popular, 2 twice.

    0 where nothing is recommended, or nothing taken was ever seen in training.

    Args:
        lists: (n_users, k) int item_ids; 0 is none.
        targets: (n_users,) int item_ids.
        counts: (n_items + 1,) training interactions of each item.

    Example:
        >>> popularity_bias(torch.tensor([[1, 2]]), torch.tensor([3]), torch.tensor([0, 6, 2, 4]))
        1.0
    """
    recommended, taken = counts[lists[lists != 0]].double(), counts[targets].double()
    if len(recommended) == 0 or taken.sum() == 0:
        return 0.0
    return float(recommended.mean() / taken.mean())
