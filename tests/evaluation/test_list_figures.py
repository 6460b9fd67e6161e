"""All measures of lists of one model, of what its data have, with intervals over users."""

import numpy as np
import pytest
from scipy import sparse

from genrec.evaluation.list_figures import ListMeasurer
from genrec.evaluation.list_measures import miscalibration, novelty, serendipity
from genrec.sequences.histories import Histories, TimeCuts

# In training 1 2, 3 2, 1 2; the test's targets are items 2, 3 and 1
ITEMS, OFFSETS = np.array([1, 2, 1, 2, 3, 2, 2, 3, 1, 2, 4, 1], np.int32), np.array([0, 4, 8, 12])
CODES = np.array([[-1, -1], [0, 0], [0, 1], [1, 0], [1, 1]], np.int32)
SETS = sparse.csr_array(np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 1]], bool))
LISTS = np.array([[3, 4], [1, 4], [3, 1]], np.int32)


def measurer(words=SETS, categories=SETS, cuts=None):
    return ListMeasurer(Histories(ITEMS, OFFSETS, 4, cuts=cuts), CODES, words, categories, n_resamples=20, seed=0)


def test_each_measure_is_given_what_it_asks_for():
    found = measurer().figures(LISTS)
    taken = np.array([[0, 2, 1, 0, 0], [0, 0, 2, 1, 0], [0, 1, 1, 0, 1]])
    expected = {
        "novelty_at_2": novelty(LISTS, np.array([0, 2, 3, 1, 0]), 3).mean(),
        "serendipity_at_2": serendipity(LISTS, np.array([2, 3, 1]), np.array([0, 2, 3, 1, 0])).mean(),
        "miscalibration_at_2": miscalibration(LISTS, sparse.csr_array(taken), SETS).mean(),
    }
    assert {name: found[name]["value"] for name in expected} == pytest.approx(expected)
    assert set(found) == {*expected, "code_diversity_at_2", "word_diversity_at_2", "gini_at_2"}
    for name, each in found.items():
        assert ("low" in each) == (name != "gini_at_2")
        assert each.get("low", 0) <= each["value"] <= each.get("high", 1)


def test_a_user_who_took_an_item_twice_is_one_taker():
    histories = Histories(np.array([1, 1, 1, 2, 2, 2, 2, 2, 1, 1], np.int32), np.array([0, 5, 10]), 2)
    twice = ListMeasurer(histories, CODES[:3], None, None, 20, 0).figures(np.array([[1], [1]], np.int32))
    assert twice["novelty_at_1"]["value"] == 1  # one of two


def test_what_the_data_do_not_have_is_not_measured():
    assert set(measurer(words=None, categories=None).figures(LISTS)) == {
        "novelty_at_2", "code_diversity_at_2", "serendipity_at_2", "gini_at_2",
    }  # fmt: skip
    nothing = sparse.csr_array(np.zeros((5, 2), bool))
    assert "miscalibration_at_2" not in measurer(categories=nothing).figures(LISTS)


def test_in_time_it_counts_what_is_before_the_first_moment_and_has_a_row_a_target():
    cuts = TimeCuts(np.array([3, 4, 9]), np.array([3, 4, 9]), all_targets=True)
    lists = np.array([[3], [1], [1], [1], [1], [1], [1]], np.int32)
    found = measurer(cuts=cuts).figures(lists)
    # two users train; item 1 was taken by both of them, item 3 by nobody
    assert found["novelty_at_1"]["value"] == pytest.approx(1 / 7)
