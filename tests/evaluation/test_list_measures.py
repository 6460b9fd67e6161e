"""Measures of lists by hand, and beside other libraries' where one is at hand; benchmarks/parity has RecTools'."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import entropy
from sklearn.metrics import pairwise_distances

from genrec.evaluation.list_measures import (
    code_diversity,
    gini,
    miscalibration,
    novelty,
    serendipity,
    word_diversity,
)


def drawn_lists(seed=0, n=30, k=6, n_items=20):
    """Lists of different items, the last two short."""
    random = np.random.default_rng(seed)
    lists = np.stack([random.permutation(n_items)[:k] + 1 for _ in range(n)]).astype(np.int32)
    lists[-2, 1:] = 0
    lists[-1] = 0
    return lists


def test_an_item_that_everybody_took_is_no_news_and_one_that_nobody_took_is_that_of_one_user():
    found = novelty(np.array([[1, 1], [2, 3], [0, 0]]), np.array([0, 16, 1, 0]), n_users=16)
    assert found.tolist() == [0, 4, 0]


def test_diversity_is_the_mean_of_all_pairs_of_items_there_are():
    lists, codes = drawn_lists(), np.random.default_rng(1).integers(0, 3, (21, 4)).astype(np.int32)
    slow = []
    for row in lists:
        listed = codes[row[row > 0]]
        distances = pairwise_distances(listed, metric="hamming") if len(listed) > 1 else np.zeros((1, 1))
        slow.append(distances.sum() / max(len(listed) * (len(listed) - 1), 1))
    assert code_diversity(lists, codes) == pytest.approx(slow)
    assert slow[0] > 0 == slow[-1] == slow[-2]


def test_diversity_by_words_is_jaccards():
    lists, words = drawn_lists(), np.random.default_rng(1).random((21, 9)) < 0.4
    words[0] = False
    slow = []
    for row in lists:
        listed = words[row[row > 0]]
        distances = pairwise_distances(listed, metric="jaccard") if len(listed) > 1 else np.zeros((1, 1))
        slow.append(distances.sum() / max(len(listed) * (len(listed) - 1), 1))
    assert word_diversity(lists, sparse.csr_array(words)) == pytest.approx(slow)


def test_items_without_words_are_alike():
    words = sparse.csr_array(np.array([[0, 0], [0, 0], [0, 0], [1, 0]], bool))
    assert word_diversity(np.array([[1, 2], [1, 3]]), words).tolist() == [0, 1]


def test_serendipity_is_what_a_hit_is_above_popularity():
    # four items; by popularity: item 1, then items 2 and 3 at one place, item 4 nowhere
    counts = np.array([0, 9, 3, 3, 0])
    lists, targets = np.array([[2, 4], [2, 4], [1, 2], [3, 1], [4, 0]]), np.array([2, 4, 2, 2, 4])
    # place 1 is 1, place 2 is 3 / 4; popularity of item 2 is 3 / 4, of item 4 is 0
    assert serendipity(lists, targets, counts).tolist() == [(1 - 0.75) / 2, 0.75 / 2, 0, 0, 1 / 2]


def test_gini_is_nothing_for_equal_shares_and_nearly_one_for_a_single_item():
    assert gini(np.array([[1, 2], [3, 4]]), 4) == 0
    assert gini(np.array([[3, 3], [3, 0]]), 4) == 0.75
    assert gini(np.array([[0, 0]]), 4) == 0


def test_gini_is_half_the_mean_difference_over_the_mean():
    lists = drawn_lists()
    counts = np.bincount(lists[lists > 0], minlength=21)[1:]
    differences = np.abs(counts[:, None] - counts[None]).mean()
    assert gini(lists, 20) == pytest.approx(differences / (2 * counts.mean()))


def test_miscalibration_is_the_divergence_of_two_mixtures():
    # of categories A and B: item 1 has A, item 2 has B, item 3 both, item 4 none
    members = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0, 0]], bool)
    history = sparse.csr_array(np.array([[0, 3, 1, 0, 5], [0, 0, 0, 0, 2], [0, 1, 0, 0, 0]]))
    lists = np.array([[2, 3, 4], [1, 1, 1], [4, 0, 0]])
    found = miscalibration(lists, history, sparse.csr_array(members))
    p, q = np.array([0.75, 0.25]), np.array([0.25, 0.75])
    expected = (p * np.log(p / (0.99 * q + 0.01 * p))).sum()
    assert found[0] == pytest.approx(expected)
    assert np.isnan(found[1:]).all()  # a history or a list without any category


def test_miscalibration_is_scipys_relative_entropy_of_the_smoothed_shares():
    random = np.random.default_rng(3)
    members, taken = random.random((21, 5)) < 0.4, random.integers(0, 3, (30, 21))
    members[0], taken[:, 0] = False, 0
    lists = drawn_lists()
    spread = members / np.maximum(members.sum(1, keepdims=True), 1)
    expected = []
    for row, history in zip(lists, taken, strict=False):
        p, q = history @ spread, spread[row].sum(0)
        smoothed = 0.99 * q / q.sum() + 0.01 * p / p.sum() if q.sum() else np.full(5, np.nan)
        expected.append(entropy(p, smoothed) if q.sum() else np.nan)  # scipy scales both to 1
    found = miscalibration(lists, sparse.csr_array(taken[: len(lists)]), sparse.csr_array(members))
    assert found == pytest.approx(np.array(expected), nan_ok=True)
    assert np.nanmax(found) > 0.1


def test_many_lists_are_measured_as_few(monkeypatch):
    random = np.random.default_rng(2)
    members, history = random.random((21, 5)) < 0.4, random.integers(0, 3, (30, 21))
    members[0], history[:, 0] = False, 0
    arguments = drawn_lists(), sparse.csr_array(history), sparse.csr_array(members)
    whole = miscalibration(*arguments)
    monkeypatch.setattr("genrec.evaluation.list_measures.LISTS_AT_ONCE", 7)
    assert np.array_equal(miscalibration(*arguments), whole, equal_nan=True)
