"""Metrics: known answers as arithmetic."""

import math

import numpy as np
import pytest
import pytrec_eval
import torch

from genrec.evaluation.measures import coverage, popularity_bias, user_metrics
from genrec.retrieval.ranks import ranks_in_lists


def test_a_hit_counts_by_its_rank_within_k_only():
    metrics = user_metrics(torch.tensor([1, 4, 6]), ks=[5])
    assert metrics["recall_at_5"].tolist() == [1, 1, 0]
    assert metrics["ndcg_at_5"].tolist() == pytest.approx([1, 1 / math.log2(5), 0])
    assert metrics["mrr_at_5"].tolist() == [1, 1 / 4, 0]


def test_metrics_of_users_are_those_of_trec_eval():
    random, k = np.random.default_rng(0), 10
    lists = np.stack([random.permutation(30)[:k] + 1 for _ in range(200)])
    targets = random.integers(1, 31, 200)
    ours = user_metrics(ranks_in_lists(torch.from_numpy(lists), torch.from_numpy(targets)), [k])
    names = {"recall_at_10": "recall_10", "ndcg_at_10": "ndcg_cut_10", "mrr_at_10": "recip_rank"}
    evaluator = pytrec_eval.RelevanceEvaluator(
        {str(user): {str(target): 1} for user, target in enumerate(targets)}, {"recall.10", "ndcg_cut.10", "recip_rank"}
    )
    run = {str(user): {str(item): -place for place, item in enumerate(row)} for user, row in enumerate(lists.tolist())}
    theirs = evaluator.evaluate(
        {user: {item: float(score) for item, score in row.items()} for user, row in run.items()}
    )
    for name, their_name in names.items():
        expected = [theirs[str(user)][their_name] for user in range(200)]
        assert ours[name].tolist() == pytest.approx(expected, abs=1e-6), name


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
