"""Ranks of the one relevant item, from scores and from lists, with ties."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from genrec.errors import UserError
from genrec.retrieval.ranks import (
    discounted_gain,
    found_figures,
    ranking_figures,
    ranks_from_scores,
    ranks_in_lists,
    top_items,
)


@pytest.fixture
def tied_scores():
    """Scores of 40 users for 30 items, few distinct values, so that ties abound."""
    return torch.randint(0, 6, (40, 31), generator=torch.Generator().manual_seed(0)).float()


def ranking_by_hand(scores):
    """All item_ids of one user, best first, the lower of equals first."""
    return sorted(range(1, len(scores)), key=lambda item: (-scores[item], item))


def test_ranks_equal_those_of_a_sorted_list(tied_scores):
    targets = torch.randint(1, 31, (40,), generator=torch.Generator().manual_seed(1))
    expected = [
        1 + ranking_by_hand(row).index(target)
        for row, target in zip(tied_scores.tolist(), targets.tolist(), strict=True)
    ]
    assert ranks_from_scores(tied_scores, targets).tolist() == expected


def test_of_equal_scores_the_lower_item_id_ranks_first():
    scores = torch.tensor([[0.0, 1.0, 1.0, 1.0]]).expand(3, -1)
    assert ranks_from_scores(scores, torch.tensor([1, 2, 3])).tolist() == [1, 2, 3]


def test_a_search_that_finds_every_item_has_the_figures_of_a_full_ranking(tied_scores):
    random = torch.Generator().manual_seed(1)
    targets = torch.randint(1, 31, (40,), generator=random)
    history = torch.randint(0, 31, (40, 6), generator=random)
    found = found_figures(top_items(tied_scores, 30), history, targets)
    expected = ranking_figures(lambda _: tied_scores, history, targets, n_items=30)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}
    )


def test_what_a_short_list_misses_is_not_found():
    figures = found_figures(torch.tensor([[1, 2, 0]]), torch.tensor([[2, 0]]), torch.tensor([7]))
    assert {float(value) for value in figures.values()} == {0.0}


def test_padding_never_outranks_an_item():
    assert ranks_from_scores(torch.tensor([[math.inf, 0.0, 1.0]]), torch.tensor([2])).tolist() == [1]


@pytest.mark.parametrize("rank", [lambda scores: ranks_from_scores(scores, torch.tensor([3])), partial(top_items, k=2)])
def test_a_diverged_model_is_refused_and_not_ranked(rank):
    scores = torch.tensor([[0.0, 0.5, math.nan, 0.5, math.nan]])
    with pytest.raises(UserError, match="scores must be numbers, but 2 of [45] are NaN; the model diverged"):
        rank(scores)


def test_an_item_in_a_list_has_its_place_as_rank():
    lists = torch.tensor([[5, 2, 9], [5, 2, 9], [5, 2, 9]])
    assert ranks_in_lists(lists, torch.tensor([5, 9, 7])).tolist() == [1, 3, 3 + 1]


def test_filled_up_places_are_no_hits():
    assert ranks_in_lists(torch.tensor([[5, 0, 0]]), torch.tensor([8])).tolist() == [3 + 1]


def test_invalid_beams_occupy_ranks():
    assert ranks_in_lists(torch.tensor([[0, 0, 4]]), torch.tensor([4])).tolist() == [3]


@pytest.mark.parametrize(
    ("rank", "gain"), [(1, 1), (2, 1 / math.log2(3)), (3, 1 / 2), (10, 1 / math.log2(11)), (11, 0)]
)
def test_a_hit_gains_one_over_the_logarithm_of_its_rank_plus_one(rank, gain):
    assert discounted_gain(torch.tensor([rank]), k=10).item() == pytest.approx(gain)


@pytest.mark.parametrize("k", [1, 7, 29, 30])
def test_the_top_items_equal_those_of_a_sorted_list(tied_scores, k):
    expected = [ranking_by_hand(row)[:k] for row in tied_scores.tolist()]
    assert top_items(tied_scores, k).tolist() == expected


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("n_items", [59, 60, 63])
def test_the_top_items_of_a_large_catalogue_are_found_in_the_stretches_that_hold_them(monkeypatch, k, n_items):
    random = torch.Generator().manual_seed(k)
    scores = torch.randint(0, 8, (200, n_items + 1), generator=random).float()
    scores[torch.rand(scores.shape, generator=random) < 0.7] = -torch.inf  # some have fewer than k items
    expected = top_items(scores, k)
    monkeypatch.setattr("genrec.retrieval.ranks.STRETCH", 3)
    found = top_items(scores, k)
    assert n_items // 3 > 2 * k or k == 20
    assert torch.equal(found, expected)


@pytest.mark.parametrize("place", [1, 7, 63])
def test_a_score_that_is_no_number_is_found_in_any_stretch(monkeypatch, place):
    monkeypatch.setattr("genrec.retrieval.ranks.STRETCH", 3)
    scores = torch.zeros(2, 64)
    scores[1, place] = torch.nan
    with pytest.raises(UserError, match="1 of 126 are NaN"):
        top_items(scores, 1)


def test_figures_do_not_depend_on_how_many_users_are_scored_at_once(monkeypatch, tied_scores):
    history = torch.arange(40)[:, None]
    figures = []
    for at_once in (2**25, 31 * 7):
        monkeypatch.setattr("genrec.retrieval.ranks.SCORES_AT_ONCE", at_once)
        targets = torch.arange(40) % 30 + 1
        figures.append(ranking_figures(lambda users: tied_scores[users[:, 0]], history % 31, targets, n_items=30))
    assert figures[0] == figures[1]


def test_top_items_and_ranks_agree(tied_scores):
    targets = torch.randint(1, 31, (40,), generator=torch.Generator().manual_seed(1))
    ranks = ranks_from_scores(tied_scores, targets)
    assert torch.equal(ranks_in_lists(top_items(tied_scores, 30), targets), ranks)


def test_a_list_longer_than_the_catalogue_is_filled_up():
    assert top_items(torch.tensor([[9.0, 0.5, 0.7]]), k=5).tolist() == [[2, 1, 0, 0, 0]]


def test_excluded_items_are_not_listed():
    scores = torch.tensor([[0.0, -math.inf, 3.0, -math.inf, 1.0]])
    assert top_items(scores, k=4).tolist() == [[2, 4, 0, 0]]


def test_the_scores_stay_as_they_were(tied_scores):
    before = tied_scores.clone()
    top_items(tied_scores, 5)
    assert np.array_equal(tied_scores.numpy(), before.numpy())


def test_the_gain_is_as_precise_as_is_asked():
    ranks = torch.arange(1, 6)
    assert discounted_gain(ranks, 5).dtype == torch.float32
    assert discounted_gain(ranks, 5, torch.float64).tolist() == [1 / math.log2(1 + rank) for rank in range(1, 6)]
