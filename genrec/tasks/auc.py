"""The area under the ROC curve, exact, ties counted half."""

from torch import Tensor

from genrec.layers.finite import check_finite


def roc_auc(labels: Tensor, scores: Tensor) -> float:
    """The chance that a positive scores above a negative (Mann-Whitney), NaN where one class is missing.

    Args:
        labels: (n,), positive where above 0.5.
        scores: (n,).

    Raises:
        UserError: a label or a score is NaN or infinite.

    Example:
        >>> import torch
        >>> roc_auc(torch.tensor([0, 0, 1, 1]), torch.tensor([0.1, 0.4, 0.35, 0.8]))
        0.75
    """
    check_finite(labels, "labels")
    check_finite(scores, "scores")
    is_positive = labels.flatten() > 0.5
    n_positive = int(is_positive.sum())
    n_negative = len(is_positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    _, place, counts = scores.flatten().unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    mean_ranks = ends - (counts.double() - 1) / 2  # tied scores share the mean of their ranks
    rank_sum = mean_ranks[place][is_positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
