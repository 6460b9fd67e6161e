"""Losses of networks that give probabilities, and of scores against negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor

from genrec.layers.processes import summed, weight_of


def known_labels(predictions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The rows whose label is known, NaN being unknown, with their labels as float32.

    Args:
        predictions: one a row, in any shape.
        labels: one a row, of any type and shape; 0, 1 or a probability between.

    Returns:
        (n_known,) each.

    Raises:
        ValueError: there are not as many predictions as labels, or a label lies outside of 0 to 1.
    """
    if predictions.numel() != labels.numel():
        raise ValueError(
            "the network must give one probability for each label, got shape "
            f"{tuple(predictions.shape)} for labels of {tuple(labels.shape)}"
        )
    predictions, labels = predictions.flatten(), labels.flatten().float()
    is_wrong = (labels < 0) | (labels > 1)
    known = ~labels.isnan()
    has_wrong, has_unknown = torch.stack([is_wrong.any(), ~known.all()]).tolist()  # one wait for the device
    if has_wrong:
        raise ValueError(
            f"labels must be 0 or 1, or a probability between, got {float(labels[is_wrong][0])}; scale them, or train "
            "a regression by MTLTrainer"
        )
    return (predictions[known], labels[known]) if has_unknown else (predictions, labels)


def binary_cross_entropy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The mean over rows, in float32 whatever computed the probabilities.

    Args:
        probabilities: (batch,).
        labels: (batch,) of any type, 0 or 1.

    Raises:
        ValueError: a finite prediction is no probability.
    """
    outside = (probabilities < 0) | (probabilities > 1)
    is_finite, is_outside = torch.stack([probabilities.isfinite().all(), outside.any()]).tolist()
    if not is_finite:
        return probabilities.float().sum()  # not finite either; torch's own would raise an error that names nothing
    if is_outside:
        raise ValueError(
            "the network must give probabilities of classifications, got "
            f"{float(probabilities.detach()[outside][0])}; end it in a sigmoid"
        )
    with torch.autocast(probabilities.device.type, enabled=False):
        return F.binary_cross_entropy(probabilities.float(), labels.float())


def masked_task_losses(predictions: Tensor, labels: Tensor, task_types: list[str]) -> list[Tensor]:
    """One loss a task, the mean over the rows whose label is known; NaN is unknown.

    Of several processes each has its share of the rows, and what the mean of the processes makes the loss of all.

    Args:
        predictions, labels: (batch, n_tasks).

    Returns:
        () each; zero, without gradient, where a task has no label at all.
    """
    is_known = ~labels.isnan()
    n_own = is_known.sum(0)
    n_known = summed(n_own)
    losses = []
    for task, kind in enumerate(task_types):
        known = is_known[:, task]
        if not n_known[task]:
            losses.append(predictions.new_zeros(()))
            continue
        if not n_own[task]:
            loss = predictions[:, task].sum() * 0  # a gradient, for what others know
        elif kind == "classification":
            loss = binary_cross_entropy(*known_labels(predictions[:, task], labels[:, task]))
        else:
            loss = F.mse_loss(predictions[known, task].float(), labels[known, task].float())
        losses.append(loss * weight_of(n_own[task], n_known[task]))
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
