"""Metrics: known answers as arithmetic."""

import math

import pytest
import torch

from genrec.evaluation.measures import coverage, popularity_bias, user_metrics


def test_a_hit_counts_by_its_rank_within_k_only():
    metrics = user_metrics(torch.tensor([1, 4, 6]), ks=[5])
    assert metrics["recall_at_5"].tolist() == [1, 1, 0]
    assert metrics["ndcg_at_5"].tolist() == pytest.approx([1, 1 / math.log2(5), 0])
    assert metrics["mrr_at_5"].tolist() == [1, 1 / 4, 0]


def test_each_k_has_metrics_of_its_own():
    metrics = user_metrics(torch.tensor([2]), ks=[1, 3])
    assert sorted(metrics) == ["mrr_at_1", "mrr_at_3", "ndcg_at_1", "ndcg_at_3", "recall_at_1", "recall_at_3"]
    assert (metrics["recall_at_1"].item(), metrics["recall_at_3"].item()) == (0, 1)


def test_no_metric_falls_when_k_grows():
    ranks = torch.randint(1, 30, (200,), generator=torch.Generator().manual_seed(0))
    metrics = user_metrics(ranks, ks=range(1, 25))
    for name in ("recall", "ndcg", "mrr"):
        values = torch.stack([metrics[f"{name}_at_{k}"].mean() for k in range(1, 25)])
        assert (values.diff() >= 0).all()


def test_coverage_counts_an_item_once_and_padding_never():
    assert coverage(torch.tensor([[1, 2, 0], [2, 3, 0]]), n_items=6) == 3 / 6


def test_popularity_bias_compares_what_is_recommended_with_what_is_taken():
    counts = torch.tensor([0, 10, 20, 5])
    assert popularity_bias(torch.tensor([[1, 2], [2, 0]]), torch.tensor([3, 1]), counts) == pytest.approx(
        ((10 + 20 + 20) / 3) / ((5 + 10) / 2)
    )


def test_popularity_bias_of_empty_lists_is_0():
    assert popularity_bias(torch.zeros(2, 3, dtype=torch.long), torch.tensor([1, 1]), torch.tensor([0, 4])) == 0
