"""Recall of new and of known targets, by scores that are the same for everybody."""

import numpy as np
import pandas as pd
import pytest
import torch

from genrec.add_items import recall
from genrec.add_items.holdout import HeldOut
from genrec.sequences.histories import Histories
from genrec.serving.constrained import Scoring

N_KNOWN, N_ITEMS = 20, 22
# known items are worth less the higher their number; new ones lie between the 32nd and the 33rd, were there so many
SCORES = torch.tensor([0.0, *(-0.1 * item for item in range(1, N_KNOWN + 1)), -3.23, -3.25])
FIXED = Scoring(lambda history: SCORES.expand(len(history), -1), max_history=5)


def held(*users: list[int]) -> HeldOut:
    items = np.concatenate(users).astype(np.int32)
    everything = Histories(items, np.cumsum([0, *map(len, users)]), N_ITEMS)
    empty = Histories(np.array([], np.int32), np.array([0]), N_KNOWN)
    return HeldOut(everything, empty, pd.DataFrame(index=range(N_KNOWN)), pd.DataFrame(index=range(2)))


def test_a_boost_finds_new_targets_and_costs_the_known_ones_that_they_push_out():
    """The least boost that finds them is 2.5, and with both new ones above it the tenth known item is the twelfth."""
    rows = recall.measure(FIXED, held([20, 19, 21, 22], [16, 15, 2, 1], [18, 17, 3, 10]), "fixed", n_resamples=20)
    assert [row["boost"] for row in rows] == [0, 2.5]
    assert [row["new"] for row in rows] == [(0, 0, 0), (1, 1, 1)]
    assert [row["known"][0] for row in rows] == [1, 0.5]
    assert rows[1]["known"][1:] == (0, 1)
    assert {(row["n_new"], row["n_known"]) for row in rows} == {(1, 2)}


def test_the_history_is_never_found():
    hits = recall.hits(FIXED, held([1, 2, 3, 2], [1, 5, 4, 6]), "test", "fixed", None)
    assert hits.found.tolist() == [[False, True]] * len(recall.BOOSTS)


def test_without_a_new_target_there_is_no_boost_and_no_figure_of_them():
    (row,) = recall.measure(FIXED, held([16, 15, 2, 1], [18, 17, 3, 10]), "fixed", n_resamples=20)
    assert (row["boost"], row["new"], row["n_new"], row["known"]) == (0, None, 0, (1, 1, 1))


def test_all_with_a_new_target_and_as_many_others_as_asked_for_are_measured():
    users = [[20, 19, 21, 22], [20, 19, 22, 21], *([16, 15, 2, item] for item in range(3, 12))]
    hits = recall.hits(FIXED, held(*users), "test", "fixed", most_known=4)
    assert (int(hits.is_new.sum()), len(hits.is_new)) == (2, 6)


@pytest.mark.parametrize("found", [[[1, 0], [0, 1]], [[0, 0], [0, 0]]])
def test_a_boost_that_loses_one_kind_wholly_is_never_better_than_none(found):
    assert recall.Hits(np.array([False, True]), np.array(found, bool)).best_boost() == 0
