"""Metrics of lists: against trec_eval, against the seed page's definitions where those are right, and where not."""

import math
import random
import time

import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.evaluation.measures import user_metrics
from genrec.modules.recommendation_metrics import RecommendationMetrics
from genrec.retrieval.ranks import ranks_in_lists

AT_K = ("recall_at_k", "precision_at_k", "ndcg_at_k", "hit_rate_at_k")


class PageMetrics:
    """The definitions as page 003 prints them."""

    @staticmethod
    def recall_at_k(predictions, targets, k):
        recall_scores = []
        for pred, target in zip(predictions, targets):  # noqa: B905
            if len(target) == 0:
                continue
            top_k_pred = set(pred[:k])
            target_set = set(target)
            recall_scores.append(len(top_k_pred & target_set) / len(target_set))
        return np.mean(recall_scores) if recall_scores else 0.0

    @staticmethod
    def precision_at_k(predictions, targets, k):
        precision_scores = []
        for pred, target in zip(predictions, targets):  # noqa: B905
            if k == 0:
                continue
            precision_scores.append(len(set(pred[:k]) & set(target)) / k)
        return np.mean(precision_scores) if precision_scores else 0.0

    @staticmethod
    def ndcg_at_k(predictions, targets, k):
        ndcg_scores = []
        for pred, target in zip(predictions, targets):  # noqa: B905
            if len(target) == 0:
                continue
            dcg = 0
            for i, item in enumerate(pred[:k]):
                if item in target:
                    dcg += 1 / np.log2(i + 2)
            idcg = sum(1 / np.log2(i + 2) for i in range(min(len(target), k)))
            ndcg_scores.append(dcg / idcg if idcg > 0 else 0)
        return np.mean(ndcg_scores) if ndcg_scores else 0.0

    @staticmethod
    def hit_rate_at_k(predictions, targets, k):
        hits = 0
        total = 0
        for pred, target in zip(predictions, targets):  # noqa: B905
            if len(target) == 0:
                continue
            if len(set(pred[:k]) & set(target)) > 0:
                hits += 1
            total += 1
        return hits / total if total > 0 else 0.0


def random_case(seed):
    """Ranked lists and relevant items of five users, without repetitions; each has some of both."""
    draw = random.Random(seed)
    predictions = [draw.sample(range(30), draw.randint(1, 12)) for _ in range(5)]
    targets = [draw.sample(range(30), draw.randint(1, 8)) for _ in range(5)]
    return predictions, targets, draw.randint(1, 10)


def of_trec_eval(predictions, targets, k):
    """The four metrics as trec_eval computes them."""
    relevant = {str(user): {str(item): 1 for item in items} for user, items in enumerate(targets)}
    ranked = {
        str(u): {str(item): float(-rank) for rank, item in enumerate(items)} for u, items in enumerate(predictions)
    }
    names = {"recall_at_k": "recall", "precision_at_k": "P", "ndcg_at_k": "ndcg_cut", "hit_rate_at_k": "success"}
    evaluator = pytrec_eval.RelevanceEvaluator(relevant, {f"{name}.{k}" for name in names.values()})
    of_users = evaluator.evaluate(ranked).values()
    return {ours: np.mean([user[f"{name}_{k}"] for user in of_users]) for ours, name in names.items()}


def test_they_equal_trec_eval_on_a_thousand_random_cases():
    for seed in range(1000):
        predictions, targets, k = random_case(seed)
        ours = {name: getattr(RecommendationMetrics, name)(predictions, targets, k) for name in AT_K}
        assert ours == pytest.approx(of_trec_eval(predictions, targets, k), abs=1e-12), seed


lists_of_ids = st.lists(st.lists(st.integers(-3, 9), max_size=6), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(lists_of_ids, st.data(), st.integers(0, 8))
def test_they_equal_the_page_wherever_nothing_repeats_and_everybody_has_a_target(predictions, data, k):
    n_users = len(predictions)
    relevant = st.lists(st.integers(-3, 9), min_size=1, max_size=6, unique=True)
    targets = data.draw(st.lists(relevant, min_size=n_users, max_size=n_users))
    predictions = [list(dict.fromkeys(items)) for items in predictions]
    for name in AT_K:
        value = getattr(RecommendationMetrics, name)(predictions, targets, k)
        assert value == pytest.approx(getattr(PageMetrics, name)(predictions, targets, k), abs=1e-12), name


few_ids = st.lists(st.integers(0, 2), max_size=6)  # so few that lists repeat them, where the page's NDCG is above 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(few_ids, few_ids), min_size=1, max_size=3))
def test_on_any_lists_they_lie_between_0_and_1_and_all_but_precision_grow_with_k(users):
    predictions, targets = ([list(items) for items in lists] for lists in zip(*users, strict=True))
    for name in AT_K:
        values = [getattr(RecommendationMetrics, name)(predictions, targets, k) for k in range(6)]
        assert all(0 <= value <= 1 + 1e-12 for value in values), name
        if name in ("recall_at_k", "hit_rate_at_k"):
            assert values == sorted(values), name


def test_they_equal_the_pipelines_own_figures_where_each_user_has_one_target():
    generator = torch.Generator().manual_seed(0)
    lists = torch.stack([torch.randperm(20, generator=generator)[:10] + 1 for _ in range(50)])
    targets = torch.randint(1, 21, (50,), generator=generator)
    own = user_metrics(ranks_in_lists(lists, targets), ks=[1, 5, 10])
    for k in (1, 5, 10):
        for name in ("recall", "ndcg"):
            value = getattr(RecommendationMetrics, f"{name}_at_k")(lists.tolist(), targets[:, None].tolist(), k)
            assert value == pytest.approx(own[f"{name}_at_{k}"].double().mean().item(), abs=1e-7)


PREDICTIONS, TARGETS = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], [[1, 3, 5], [7, 9]]


def gain(*ranks):
    return sum(1 / math.log2(1 + rank) for rank in ranks)


class TestKnownAnswers:
    """The page's example, and lists that one can count by hand."""

    def test_recall_and_hit_rate_and_precision_of_the_pages_example(self):
        assert RecommendationMetrics.recall_at_k(PREDICTIONS, TARGETS, 5) == 1
        assert RecommendationMetrics.hit_rate_at_k(PREDICTIONS, TARGETS, 5) == 1
        assert RecommendationMetrics.precision_at_k(PREDICTIONS, TARGETS, 5) == (3 / 5 + 2 / 5) / 2

    def test_ndcg_of_the_pages_example(self):
        expected = (gain(1, 3, 5) / gain(1, 2, 3) + gain(2, 4) / gain(1, 2)) / 2
        assert RecommendationMetrics.ndcg_at_k(PREDICTIONS, TARGETS, 5) == pytest.approx(expected, abs=1e-15)
        assert expected == pytest.approx(0.768190, abs=5e-7)

    def test_coverage_and_diversity_of_the_pages_example(self):
        assert RecommendationMetrics.coverage(PREDICTIONS, 10) == 1
        assert RecommendationMetrics.diversity(PREDICTIONS) == 1

    def test_ndcg_of_a_hit_at_rank_three_is_one_over_log2_of_four(self):
        assert RecommendationMetrics.ndcg_at_k([[9, 8, 1]], [[1]], k=3) == 1 / math.log2(4)

    def test_more_relevant_items_than_places_can_still_be_ideal(self):
        assert RecommendationMetrics.ndcg_at_k([[1, 2]], [[1, 2, 3, 4]], k=2) == 1

    def test_a_hit_beyond_k_is_none(self):
        for name in AT_K:
            assert getattr(RecommendationMetrics, name)([[9, 8, 1]], [[1]], k=2) == 0, name

    def test_a_list_shorter_than_k_has_empty_places(self):
        assert RecommendationMetrics.precision_at_k([[1]], [[1]], k=4) == 1 / 4


class TestWhatThePageGetsWrong:
    def test_an_item_listed_thrice_is_one_hit_while_the_pages_ndcg_is_above_two(self):
        assert PageMetrics.ndcg_at_k([[1, 1, 1]], [[1]], 3) == pytest.approx(2.13, abs=5e-3)
        assert RecommendationMetrics.ndcg_at_k([[1, 1, 1]], [[1]], 3) == 1

    def test_a_repeated_item_takes_a_place_but_counts_at_its_first(self):
        assert RecommendationMetrics.ndcg_at_k([[5, 1, 1, 2]], [[1, 2]], 4) == pytest.approx(gain(2, 4) / gain(1, 2))

    def test_a_target_listed_twice_is_one_while_the_pages_ndcg_expects_two_hits(self):
        assert PageMetrics.ndcg_at_k([[1, 2]], [[1, 1]], 2) < 1
        assert RecommendationMetrics.ndcg_at_k([[1, 2]], [[1, 1]], 2) == 1
        assert RecommendationMetrics.recall_at_k([[1, 2]], [[1, 1]], 2) == 1

    @pytest.mark.parametrize("name", AT_K)
    def test_lists_of_unequal_number_are_refused_while_the_page_drops_users(self, name):
        assert getattr(PageMetrics, name)([[1], [2]], [[1]], 1) == 1
        with pytest.raises(ValueError, match="for each user, got 2 and 1 lists"):
            getattr(RecommendationMetrics, name)([[1], [2]], [[1]], 1)

    def test_precision_is_of_the_users_that_recall_is_of_while_the_page_counts_those_without_targets(self):
        predictions, targets = [[1, 2], [3, 4]], [[1, 2], []]
        assert (
            PageMetrics.precision_at_k(predictions, targets, 2),
            PageMetrics.recall_at_k(predictions, targets, 2),
        ) == (
            0.5,
            1.0,
        )
        for name in AT_K:
            assert getattr(RecommendationMetrics, name)(predictions, targets, 2) == 1, name

    @pytest.mark.parametrize("name", AT_K)
    def test_the_answer_is_a_python_float_while_the_pages_may_be_numpys(self, name):
        assert type(getattr(RecommendationMetrics, name)(PREDICTIONS, TARGETS, 5)) is float
        assert type(PageMetrics.recall_at_k(PREDICTIONS, TARGETS, 5)) is np.float64

    def test_an_empty_catalogue_and_one_smaller_than_what_is_recommended_are_refused(self):
        with pytest.raises(ValueError, match="got 0 where 0 different"):
            RecommendationMetrics.coverage([], 0)
        with pytest.raises(ValueError, match="got 2 where 3 different"):
            RecommendationMetrics.coverage([[1, 2], [2, 3]], 2)


def test_long_lists_are_searched_at_once_while_the_page_compares_each_place_with_each_target():
    predictions, targets = [[*range(4_000)]] * 5, [[*range(5_000, 9_000)]] * 5
    RecommendationMetrics.ndcg_at_k(PREDICTIONS, TARGETS, 5)
    start = time.process_time()
    PageMetrics.ndcg_at_k(predictions[:1], targets[:1], 4_000)
    of_one_user = time.process_time() - start
    start = time.process_time()
    assert RecommendationMetrics.ndcg_at_k(predictions, targets, 4_000) == 0
    assert time.process_time() - start < of_one_user  # 5 users here, one there


@pytest.mark.parametrize("name", AT_K)
@pytest.mark.parametrize(
    ("predictions", "targets", "k"),
    [([], [], 3), ([[1]], [[]], 3), ([[]], [[1]], 3), ([[1]], [[1]], 0), ([[], []], [[], []], 1)],
)
def test_where_nothing_can_be_found_the_answer_is_zero(name, predictions, targets, k):
    assert getattr(RecommendationMetrics, name)(predictions, targets, k) == 0.0


@pytest.mark.parametrize("name", AT_K)
def test_a_negative_k_is_refused(name):
    with pytest.raises(ValueError, match="k must not be negative, got -1"):
        getattr(RecommendationMetrics, name)([[1]], [[1]], -1)


def test_an_item_0_is_an_item_like_any_other():
    assert RecommendationMetrics.recall_at_k([[0, 1]], [[0]], 1) == 1
    assert RecommendationMetrics.coverage([[0, 1]], 4) == 2 / 4
    assert RecommendationMetrics.diversity([[0, 1], [0, 2]]) == pytest.approx(2 / 3)


def test_coverage_of_no_recommendation_is_zero():
    assert RecommendationMetrics.coverage([[], []], 5) == 0
