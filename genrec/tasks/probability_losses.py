"""Losses of networks that give probabilities, and of scores against negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor


def binary_cross_entropy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The mean over rows, in float32 whatever computed the probabilities.

    Args:
        probabilities: (batch,).
        labels: (batch,) of any type, 0 or 1.
    """
    if not probabilities.isfinite().all():
        return probabilities.float().sum()  # not finite either; torch's own would raise an error that names nothing
    with torch.autocast(probabilities.device.type, enabled=False):
        return F.binary_cross_entropy(probabilities.float(), labels.float())


def masked_task_losses(predictions: Tensor, labels: Tensor, task_types: list[str]) -> list[Tensor]:
    """One loss a task, the mean over the rows whose label is known; NaN is unknown.

    Args:
        predictions, labels: (batch, n_tasks).

    Returns:
        () each; zero, without gradient, where a task has no label at all.
    """
    losses = []
    for task, kind in enumerate(task_types):
        known = ~labels[:, task].isnan()
        predicted, actual = predictions[known, task], labels[known, task]
        if not len(actual):
            losses.append(predictions.new_zeros(()))
        elif kind == "classification":
            losses.append(binary_cross_entropy(predicted, actual))
        else:
            losses.append(F.mse_loss(predicted.float(), actual.float()))
    return losses


def bayesian_personalized_ranking(positive: Tensor, negative: Tensor) -> Tensor:
    """BPR (Rendle et al. 2009): minus the mean of log sigmoid(positive - negative).

    Args:
        positive: (batch,).
        negative: (batch,) or (batch, n); -inf counts as no negative.
    """
    negative = negative.view(len(positive), -1)
    is_real = negative != -torch.inf
    difference = (positive[:, None] - negative)[is_real]
    return -F.logsigmoid(difference).mean()


def softmax_cross_entropy(logits: Tensor, positives: Tensor) -> Tensor:
    """The mean over rows, in float32.

    Args:
        logits: (batch, n).
        positives: (batch,) int64, the column of each row's positive item.
    """
    return F.cross_entropy(logits.float(), positives)
