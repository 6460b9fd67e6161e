"""The softmax losses against arithmetic and each other."""

import math

import pytest
import torch

from genrec.models.softmax import full_softmax_loss, sampled_softmax_loss


def drawn(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_full_softmax_is_over_all_items_but_padding():
    states = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    items = torch.tensor([[50.0, 50], [1, 0], [0, 1], [1, 1]], dtype=torch.float64)
    # scores 1, 2, 3
    expected = math.log(math.exp(1) + math.exp(2) + math.exp(3)) - 2
    assert full_softmax_loss(states, torch.tensor([2]), items).item() == pytest.approx(expected)


def test_the_sampled_softmax_over_all_items_is_the_full_one():
    states, items, targets = drawn(20, 4), drawn(31, 4, seed=1), torch.randint(1, 31, (20,))
    sampled = sampled_softmax_loss(states, targets, items, torch.arange(1, 31))
    torch.testing.assert_close(sampled, full_softmax_loss(states, targets, items))


def test_a_negative_that_is_the_target_is_left_out():
    states, items, targets = drawn(2, 4), drawn(9, 4, seed=1), torch.tensor([3, 5])
    with_target = sampled_softmax_loss(states[:1], targets[:1], items, torch.tensor([3, 7, 8]))
    without = sampled_softmax_loss(states[:1], targets[:1], items, torch.tensor([7, 8]))
    torch.testing.assert_close(with_target, without)


def test_negatives_that_are_all_the_target_cost_nothing():
    loss = sampled_softmax_loss(drawn(1, 4), torch.tensor([3]), drawn(9, 4, seed=1), torch.tensor([3, 3]))
    assert loss.item() == 0
