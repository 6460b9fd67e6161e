"""The loss over items: its repeats by brute force, samples that stand for the catalogue, and what it learns."""

import math

import pytest
import torch
import torch.nn.functional as F

from genrec.models.softmax import ItemSoftmax
from genrec.networks.sequential.repeats import SPEED, RepeatBias

N_ITEMS, DIM = 9, 4


@pytest.fixture
def table():
    return torch.randn(N_ITEMS + 1, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def states():
    return torch.randn(2, 4, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def batch():
    """Users who repeat, the first the last but one item and an item twice."""
    return {
        "history": torch.tensor([[3, 5, 3, 7], [2, 4, 0, 0]]),
        "target": torch.tensor([[5, 3, 7, 3], [4, 8, 0, 0]]),
    }


def repeats():
    bias = RepeatBias(3).double()
    bias.weight.data = torch.tensor([-0.2, 0.1, 0.05], dtype=torch.float64)
    return bias


def by_hand(states, batch, table, negatives=range(1, N_ITEMS + 1)):
    """Position by position, candidate by candidate; an item of the history is one for certain."""
    losses, weight, rarity = [], (repeats().weight * SPEED).tolist(), math.log(N_ITEMS / len(negatives))
    for user, history in enumerate(batch["history"].tolist()):
        for position, target in enumerate(batch["target"][user].tolist()):
            past = history[: position + 1]
            candidates = [target, *({*past, *negatives} - {target})]
            logits = table[candidates] @ states[user, position]
            for i, item in enumerate(candidates):
                if item in past:
                    logits[i] += weight[min(past[::-1].index(item), 2)] - rarity
            if target:
                losses.append(F.cross_entropy(logits, torch.tensor(0)))
    return torch.stack(losses).mean()


def test_the_full_loss_with_repeats_equals_the_sum_by_hand(states, batch, table):
    loss = ItemSoftmax(N_ITEMS, 0)(states, batch, table.__getitem__, repeats())
    torch.testing.assert_close(loss, by_hand(states, batch, table))


def test_the_loss_of_a_sample_with_repeats_equals_the_sum_by_hand(states, batch, table):
    torch.manual_seed(0)
    loss = ItemSoftmax(N_ITEMS, 5)(states, batch, table.__getitem__, repeats())
    torch.manual_seed(0)
    negatives = (torch.randperm(N_ITEMS)[:5] + 1).tolist()
    torch.testing.assert_close(loss, by_hand(states, batch, table, negatives))


def test_a_history_of_nothing_but_the_target_has_a_loss_and_a_gradient():
    states = torch.zeros(1, 1, 2, requires_grad=True)
    bias = RepeatBias(2)
    batch = {"history": torch.tensor([[1]]), "target": torch.tensor([[1]])}
    vectors = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    ItemSoftmax(3, 0)(states, batch, vectors.__getitem__, bias).backward()
    assert states.grad.isfinite().all()
    assert bias.weight.grad.isfinite().all()


def test_more_negatives_than_items_are_all_items(states, batch, table):
    few, many = (ItemSoftmax(N_ITEMS, n)(states, batch, table.__getitem__, repeats()) for n in (0, 100))
    torch.testing.assert_close(few, many)


def test_without_repeats_the_losses_are_plain_cross_entropies(states, batch, table):
    known = batch["target"] != 0
    targets = batch["target"][known]
    logits = states[known] @ table[1:].T
    full = ItemSoftmax(N_ITEMS, 0)(states, batch, table.__getitem__, None)
    torch.testing.assert_close(full, F.cross_entropy(logits, targets - 1))
    torch.manual_seed(0)
    sampled = ItemSoftmax(N_ITEMS, 5)(states, batch, table.__getitem__, None)
    torch.manual_seed(0)
    drawn = torch.zeros(N_ITEMS, dtype=torch.bool)
    drawn[torch.randperm(N_ITEMS)[:5]] = True
    candidates = drawn | (torch.arange(N_ITEMS) == targets[:, None] - 1)
    torch.testing.assert_close(sampled, F.cross_entropy(logits.masked_fill(~candidates, -torch.inf), targets - 1))


@pytest.mark.parametrize("num_negatives", [0, 40])
@pytest.mark.parametrize(("share", "low", "high"), [(0.0, -1e9, -3.0), (0.5, 2.0, 4.0)])
def test_the_bias_learns_how_often_people_repeat(num_negatives, share, low, high):
    """States that know nothing: the odds of the last item are its share over what each of the 49 others has.

    A share of .5 against .5 / 49 is a bias of log 49 = 3.9; without any repeat it falls without end.
    """
    torch.manual_seed(0)
    n_items, bias = 50, RepeatBias(1)
    softmax = ItemSoftmax(n_items, num_negatives)
    optimizer = torch.optim.Adam(bias.parameters(), lr=0.02)
    history = torch.randint(1, n_items + 1, (500, 1))
    other = (history + torch.randint(1, n_items, (500, 1)) - 1) % n_items + 1
    target = torch.where(torch.arange(500)[:, None] < share * 500, history, other)
    for _ in range(100):
        optimizer.zero_grad()
        batch = {"history": history, "target": target}
        softmax(torch.zeros(500, 1, 2), batch, lambda items: torch.zeros(*items.shape, 2), bias).backward()
        optimizer.step()
    assert low < SPEED * bias.weight.item() < high
