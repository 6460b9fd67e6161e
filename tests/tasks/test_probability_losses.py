"""Losses of probabilities and of scores against negatives."""

import math

import pytest
import torch

from genrec.tasks.probability_losses import (
    bayesian_personalized_ranking,
    binary_cross_entropy,
    masked_task_losses,
    softmax_cross_entropy,
)


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float64])
def test_labels_of_any_type_are_taken(kind):
    loss = binary_cross_entropy(torch.tensor([0.5, 0.25]), torch.tensor([1, 0]).to(kind))
    assert float(loss) == pytest.approx((math.log(2) - math.log(0.75)) / 2)


def test_bpr_of_one_and_of_several_negatives():
    one = bayesian_personalized_ranking(torch.tensor([1.0]), torch.tensor([0.0]))
    two = bayesian_personalized_ranking(torch.tensor([1.0]), torch.tensor([[0.0, -torch.inf]]))
    assert float(one) == pytest.approx(math.log(1 + math.exp(-1)))
    assert one == two


def test_the_softmax_counts_no_masked_column():
    loss = softmax_cross_entropy(torch.tensor([[0.0, 0.0, -torch.inf]]), torch.tensor([1]))
    assert float(loss) == pytest.approx(math.log(2))


def test_a_label_that_is_not_known_has_no_loss_and_no_gradient():
    predictions = torch.tensor([[0.5, 3.0], [0.5, 4.0]], requires_grad=True)
    labels = torch.tensor([[1.0, torch.nan], [0.0, 2.0]])
    click, rating = masked_task_losses(predictions, labels, ["classification", "regression"])
    rating.backward()
    assert (click.item(), rating.item()) == (pytest.approx(math.log(2)), 4.0)
    assert predictions.grad.tolist() == [[0, 0], [0, 4]]


def test_a_task_without_any_label_is_zero_and_needs_no_gradient():
    (loss,) = masked_task_losses(torch.rand(2, 1, requires_grad=True), torch.full((2, 1), torch.nan), ["regression"])
    assert float(loss) == 0
    assert not loss.requires_grad


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_probability_has_no_finite_loss(value):
    # torch's own raises an error that names neither the term nor the step
    loss = binary_cross_entropy(torch.tensor([0.5, value]), torch.tensor([1, 0]))
    assert not loss.isfinite()
