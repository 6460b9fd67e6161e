"""In-batch negatives: never the row's own item; which ones; and the popularity correction."""

import math

import torch
from torch.testing import assert_close

from genrec.towers.in_batch import all_in_batch, in_batch_logits, in_batch_negatives, log_sampling_probability


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_random_negatives_are_never_the_row_itself_and_follow_the_seed():
    scores = torch.zeros(4, 4)
    negatives = in_batch_negatives(scores, 2, generator=seeded(0))
    assert in_batch_logits(scores, negatives).shape == (4, 3)
    assert all(row not in chosen for row, chosen in enumerate(negatives.tolist()))
    assert torch.equal(negatives, in_batch_negatives(scores, 2, generator=seeded(0)))
    assert not torch.equal(negatives, in_batch_negatives(scores, 2, generator=seeded(1)))


def test_random_negatives_are_uniform():
    counts = torch.zeros(4)
    generator = seeded(0)
    for _ in range(2000):
        counts += torch.bincount(in_batch_negatives(torch.zeros(4, 4), 1, generator=generator)[0], minlength=4)
    assert counts[0] == 0
    assert (counts[1:] / 2000 - 1 / 3).abs().max() < 0.04


def test_hard_negatives_are_the_best_scored_others():
    scores = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 0.0]])
    assert in_batch_negatives(scores, 1, hard=True).tolist() == [[2], [2], [1]]


def test_a_row_of_the_same_item_is_no_negative():
    # Torch-RecHub takes it: the positive is then pushed away as a negative.
    items = torch.tensor([7, 7, 3])
    negatives = in_batch_negatives(torch.zeros(3, 3), item_ids=items)
    assert sorted(negatives[2].tolist()) == [0, 1]
    assert sorted(negatives[0].tolist()) == [-1, 2]
    logits = in_batch_logits(torch.zeros(3, 3), negatives)
    assert logits[0].isneginf().sum() == 1


def test_more_negatives_than_rows_are_all_of_them():
    assert in_batch_negatives(torch.zeros(3, 3), 9).shape == (3, 2)


def test_all_negatives_are_those_of_no_limit():
    scores = torch.randn(5, 5, generator=seeded(0))
    items = torch.tensor([7, 3, 7, 2, 3])
    chosen = in_batch_logits(scores, in_batch_negatives(scores, item_ids=items))
    everything = all_in_batch(scores, items, torch.arange(len(items)))
    assert torch.equal(everything.diagonal(), scores.diagonal())
    assert torch.allclose(everything.logsumexp(1), chosen.logsumexp(1))


def test_an_item_without_interactions_counts_as_one():
    expected = torch.tensor([math.log(1 / 8), math.log(6 / 8), math.log(2 / 8)])
    assert_close(log_sampling_probability(torch.tensor([0, 6, 2])), expected)
