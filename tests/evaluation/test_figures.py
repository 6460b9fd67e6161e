"""Figures: averages, and bootstrap intervals that hold what they promise."""

import numpy as np
import pytest
import torch

from genrec.evaluation.figures import bootstrap_intervals, measure
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


def test_users_who_are_all_alike_leave_no_doubt():
    assert bootstrap_intervals({"recall": torch.ones(50)}, 100, seed=0)["recall"] == (1, 1)


def test_the_seed_decides_the_resamples_and_all_metrics_share_them():
    values = torch.rand(300, generator=torch.Generator().manual_seed(0))
    first = bootstrap_intervals({"a": values, "b": values}, 130, seed=5)
    assert first["a"] == first["b"]
    assert first == bootstrap_intervals({"a": values, "b": values}, 130, seed=5)
    assert first != bootstrap_intervals({"a": values, "b": values}, 130, seed=6)
