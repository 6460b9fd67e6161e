"""Diversity: against all pairs counted one by one, in each way of counting, and its speed."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.modules import jaccard
from genrec.modules.jaccard import diversity


def of_all_pairs(lists):
    """The diversity as page 003 prints it: every pair in Python."""
    distances = []
    for i in range(len(lists)):
        for j in range(i + 1, len(lists)):
            set_i = set(lists[i])
            set_j = set(lists[j])
            if len(set_i | set_j) > 0:
                distances.append(1 - len(set_i & set_j) / len(set_i | set_j))
    return np.mean(distances) if distances else 0.0


def without_padding(lists):
    return [[item for item in row if item] for row in lists.tolist()]


@pytest.fixture(params=["sparse", "dense"])
def product(request, monkeypatch):
    """Blocks of a few users, each way of multiplying them."""
    monkeypatch.setattr(jaccard, "USERS_AT_ONCE", 7)
    monkeypatch.setattr(jaccard, "DENSE_OVERLAP", {"sparse": float("inf"), "dense": -1.0}[request.param])


@pytest.mark.usefixtures("product")
class TestDiversity:
    @pytest.mark.parametrize("n_items", [6, 30])
    def test_lists_of_one_length_give_what_all_pairs_give(self, n_items):
        generator = torch.Generator().manual_seed(0)
        lists = torch.stack([torch.randperm(n_items, generator=generator)[:5] + 1 for _ in range(40)])
        assert diversity(lists) == pytest.approx(of_all_pairs(lists.tolist()), abs=1e-12)

    @pytest.mark.parametrize("n_items", [6, 30])
    def test_short_empty_and_repeating_lists_give_what_all_pairs_give(self, n_items):
        lists = torch.randint(0, n_items, (40, 5), generator=torch.Generator().manual_seed(0))
        lists[torch.tensor([3, 17, 39])] = 0
        assert diversity(lists) == pytest.approx(of_all_pairs(without_padding(lists)), abs=1e-12)

    def test_an_empty_list_is_as_far_as_can_be_from_another_but_two_say_nothing(self):
        assert diversity(torch.tensor([[1, 2], [0, 0]])) == 1
        assert diversity(torch.tensor([[1, 2], [1, 2], [0, 0], [0, 0]])) == pytest.approx(4 / 5)
        assert diversity(torch.tensor([[0, 0], [0, 0]])) == 0

    def test_equal_lists_in_any_order_are_not_diverse(self):
        assert diversity(torch.tensor([[1, 2, 3], [3, 1, 2], [2, 3, 1]])) == 0

    def test_longer_lists_than_a_byte_can_count_are_counted(self):
        lists = torch.arange(1, 601).repeat(2, 1)
        lists[1, :300] += 600
        assert diversity(lists) == pytest.approx(1 - 300 / 900)

    def test_large_ids_cost_nothing(self):
        assert diversity(torch.tensor([[10**12, 5], [10**12, 7]])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("n_users", [0, 1])
def test_fewer_than_two_users_are_not_diverse(n_users):
    assert diversity(torch.ones(n_users, 3, dtype=torch.long)) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=2, max_size=8))
def test_it_equals_all_pairs_on_any_lists(rows):
    lists = torch.tensor(rows)
    assert diversity(lists) == pytest.approx(of_all_pairs(without_padding(lists)), abs=1e-12)


def test_twenty_thousand_users_take_less_than_a_second_of_cpu_time():
    generator = np.random.default_rng(0)
    lists = torch.from_numpy(generator.integers(1, 5_001, (20_000, 10)))
    diversity(lists[:100])
    start = time.process_time()
    value = diversity(lists)
    assert time.process_time() - start < 1
    assert value == pytest.approx(1 - 10 / (2 * 5_000), abs=1e-4)  # two draws of 10 share 10 * 10 / 5,000 on average
