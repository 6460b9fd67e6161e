"""Figures: averages, and bootstrap intervals that hold what they promise."""

import numpy as np
import pytest
import torch

from genrec.evaluation.figures import (
    bootstrap_intervals,
    bootstrap_means,
    difference_intervals,
    differences,
    measure,
    pair_differences,
)
from genrec.retrieval.ranking import RankedItems


def ranked(lists, targets):
    return RankedItems({"kept": torch.tensor(lists)}, torch.tensor(targets))


def test_figures_are_means_over_users():
    figures = measure(ranked([[1, 2], [3, 1], [2, 3]], [2, 3, 1]), np.array([0, 4, 2, 2]), [1, 2], 10, seed=0)
    values = figures.values["kept"]
    assert values["recall_at_1"] == pytest.approx(1 / 3)
    assert values["recall_at_2"] == pytest.approx(2 / 3)
    assert values["mrr_at_2"] == pytest.approx((1 / 2 + 1) / 3)
    assert values["coverage_at_1"] == 1
    assert values["popularity_bias_at_1"] == pytest.approx(((4 + 2 + 2) / 3) / ((2 + 2 + 4) / 3))


def test_only_means_over_users_have_intervals():
    figures = measure(ranked([[1]], [1]), np.array([0, 1]), [1], 10, seed=0)
    assert sorted(figures.intervals["kept"]) == ["mrr_at_1", "ndcg_at_1", "recall_at_1"]


def test_an_interval_is_about_two_standard_errors_wide_each_way():
    n, p = 2000, 0.3
    hits = (torch.arange(n) < n * p).float()
    low, high = bootstrap_intervals({"recall": hits}, 2000, seed=1)["recall"]
    error = (p * (1 - p) / n) ** 0.5
    assert low == pytest.approx(p - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(p + 1.96 * error, abs=0.25 * error)


def test_users_are_drawn_with_all_of_their_targets():
    """Three targets of each user that are found or missed together tell no more than one."""
    hits = (torch.arange(400) < 120).float()
    alone = bootstrap_intervals({"recall": hits}, 500, seed=1)
    three, user_ids = {"recall": hits.repeat_interleave(3)}, np.arange(400).repeat(3)
    assert bootstrap_intervals(three, 500, seed=1, user_ids=user_ids)["recall"] == pytest.approx(alone["recall"])
    low, high = bootstrap_intervals(three, 500, seed=1)["recall"]
    assert high - low < 0.7 * (alone["recall"][1] - alone["recall"][0])  # by the root of three


def test_users_count_by_their_targets():
    # a user with three hits and one with a miss: means of 1, 0 or 3 / 4 are drawn, never 1 / 2
    values, user_ids = np.array([[1.0, 1, 1, 0]]), np.array([1, 1, 1, 2])
    assert set(bootstrap_means(values, 100, 0, user_ids).ravel().tolist()) == {0, 0.75, 1}


def test_one_target_a_user_needs_no_users():
    values = torch.rand(300, generator=torch.Generator().manual_seed(0))
    assert bootstrap_intervals({"a": values}, 130, 5) == bootstrap_intervals({"a": values}, 130, 5, np.arange(1, 301))


def test_users_who_are_all_alike_leave_no_doubt():
    assert bootstrap_intervals({"recall": torch.ones(50)}, 100, seed=0)["recall"] == (1, 1)


def test_the_seed_decides_the_resamples_and_all_metrics_share_them():
    values = torch.rand(300, generator=torch.Generator().manual_seed(0))
    first = bootstrap_intervals({"a": values, "b": values}, 130, seed=5)
    assert first["a"] == first["b"]
    assert first == bootstrap_intervals({"a": values, "b": values}, 130, seed=5)
    assert first != bootstrap_intervals({"a": values, "b": values}, 130, seed=6)


def ranks(n=2000, seed=0):
    return np.random.default_rng(seed).integers(1, 12, n).astype(np.int32)


def test_the_difference_of_two_models_is_told_from_the_same_users():
    # Of users who find their item with either model one in fifty finds it with the better alone. Each model's own
    # interval is +- .02 and holds the other's point; the difference is certain.
    reference = ranks()
    better = np.where(np.arange(len(reference)) % 50 == 0, 1, reference).astype(np.int32)
    gained = ((better <= 5) & (reference > 5)).mean()
    value, low, high = difference_intervals(better, reference, [5], 2000, seed=0)["recall_at_5"]
    error = (gained * (1 - gained) / len(reference)) ** 0.5
    assert value == pytest.approx(gained)
    assert (low, high) == pytest.approx((gained - 1.96 * error, gained + 1.96 * error), abs=0.3 * error)
    assert low > 0
    own = bootstrap_intervals({"recall": torch.from_numpy(better <= 5).float()}, 2000, seed=0)["recall"]
    assert own[0] < (reference <= 5).mean() < own[1]


def test_a_model_does_not_differ_from_itself():
    same = difference_intervals(ranks(), ranks(), [5, 10], 100, seed=0)
    assert set(same.values()) == {(0.0, 0.0, 0.0)}
    assert sorted(same) == ["mrr_at_10", "mrr_at_5", "ndcg_at_10", "ndcg_at_5", "recall_at_10", "recall_at_5"]


def test_the_resamples_of_a_difference_are_those_of_its_parts():
    # the mean difference of a resample is the difference of both models' means in it, so the ends agree
    ours, theirs = ranks(50), ranks(50, seed=1)
    alone = bootstrap_intervals({"a": torch.from_numpy((ours <= 5) * 1.0 - (theirs <= 5))}, 200, seed=3)["a"]
    assert difference_intervals(ours, theirs, [5], 200, seed=3)["recall_at_5"][1:] == pytest.approx(alone)


def test_models_are_compared_on_the_splits_that_both_were_measured_on():
    found = differences(
        {"knn/test/kept": ranks(), "knn/validation/kept": ranks(), "tiger/test/kept": ranks(seed=1)},
        lambda model: [] if model == "knn" else ["knn", "absent"], [5], 100, 0,
    )  # fmt: skip
    assert list(found) == ["tiger"]
    assert list(found["tiger"]) == ["knn"]
    assert list(found["tiger"]["knn"]) == ["test"]
    assert len(found["tiger"]["knn"]["test"]["kept"]["recall_at_5"]) == 3


def test_all_pairs_of_models_are_compared_as_two_are():
    random = np.random.default_rng(0)
    ranks = {model: random.integers(1, 30, 40).astype(np.int32) for model in "abc"}
    metrics = {model: {"recall_at_5": (torch.from_numpy(each) <= 5).float()} for model, each in ranks.items()}
    found = pair_differences(metrics, 50, seed=3)
    assert {model: sorted(others) for model, others in found.items()} == {
        "a": ["b", "c"],
        "b": ["a", "c"],
        "c": ["a", "b"],
    }
    expected = difference_intervals(ranks["a"], ranks["c"], [5], 50, seed=3)["recall_at_5"]
    assert found["a"]["c"]["recall_at_5"] == pytest.approx(expected)
    assert found["c"]["a"]["recall_at_5"][0] == -found["a"]["c"]["recall_at_5"][0]
