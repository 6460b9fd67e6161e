"""Retrieve, then rank: the same items in another order, and the ceiling."""

import math

import numpy as np
import pytest
import torch

from genrec.errors import UserError
from genrec.evaluation.reranking import (
    SINGLE_SIGNALS,
    best_signal,
    measure_reordered,
    order_by_signal,
    reorder,
    retrieve,
    search_by_scores,
)
from genrec.generation.generated_items import GeneratedItems
from genrec.ranking.rows import SIGNALS, RankingRows
from genrec.retrieval.candidates import Candidates
from genrec.sequences.histories import Histories

# test targets are 4 and 6
HISTORIES = Histories(np.array([1, 2, 3, 4, 5, 2, 1, 6], np.int32), np.array([0, 4, 8]), n_items=6)


def test_retrieval_gives_users_in_their_order_and_cut_histories():
    seen = []

    def search(history):
        seen.append(history.tolist())
        return GeneratedItems(history[:, :1], torch.zeros(len(history), 1))

    found = retrieve(search, HISTORIES, "test", max_history=2, batch_size=1)
    assert seen == [[[2, 3]], [[2, 1]]]
    assert found.items.tolist() == [[2], [2]]


def test_the_best_scored_items_have_log_probabilities_of_the_whole_catalogue():
    scores = torch.tensor([[-torch.inf, 0.0, math.log(2), math.log(5)]])
    found = search_by_scores(lambda history: scores, 2)(torch.zeros(1, 1))
    assert found.items.tolist() == [[3, 2]]
    assert found.log_probs.exp().tolist()[0] == pytest.approx([5 / 8, 2 / 8])


def test_ranking_changes_the_order_and_never_the_set_of_items():
    items = torch.tensor([[4, 1, 5], [6, 2, 0]])
    candidates = Candidates(items, torch.zeros(2, 3))
    users, places = items.nonzero(as_tuple=True)
    reordered = reorder(candidates, users, places, torch.tensor([0.1, 0.9, 0.1, 0.2, 0.3]))
    assert reordered.tolist() == [[1, 4, 5], [2, 6, 0]]
    random = reorder(candidates, users, places, torch.rand(5))
    assert torch.equal(random.sort(1).values, items.sort(1).values)


def test_the_ceiling_is_the_candidates_recall_under_each_protocol():
    lists = torch.tensor([[1, 5, 4], [2, 1, 3]])
    figures = measure_reordered(lists, HISTORIES, "test", (1, 2), 10, 0)
    kept, excluded = figures.values["kept"], figures.values["excluded"]
    assert (kept["recall_at_2"], kept["candidate_recall"]) == (0, 0.5)
    assert (excluded["recall_at_1"], excluded["recall_at_2"], excluded["candidate_recall"]) == (0, 0.5, 0.5)


def rows_by_hand(candidates, **signals):
    """Rows of each candidate with the given signals, (n_users, n) each; the others are 0."""
    users, places = candidates.items.nonzero(as_tuple=True)
    table = torch.zeros(len(users), len(SIGNALS))
    for name, values in signals.items():
        table[:, SIGNALS.index(name)] = torch.tensor(values)[users, places]
    nothing = torch.zeros(len(users))
    return RankingRows({"signals": table}, nothing, nothing, users, places)


# the targets, 4 and 6, stand last; each signal finds so many of them first
CANDIDATES = Candidates(torch.tensor([[5, 6, 4], [5, 4, 6]]), torch.zeros(2, 3))
FINDS = {"nobody": [[3.0, 2, 1], [3.0, 2, 1]], "one": [[3.0, 2, 1], [1.0, 2, 3]], "both": [[1.0, 2, 3], [1.0, 2, 3]]}


@pytest.mark.parametrize("best", SINGLE_SIGNALS)
def test_the_best_single_signal_is_the_one_that_orders_best_alone(best):
    others = iter(["one", "nobody", "nobody"])
    signals = {name: FINDS["both" if name == best else next(others)] for name in SINGLE_SIGNALS}
    rows = rows_by_hand(CANDIDATES, **signals)
    assert best_signal(CANDIDATES, rows, HISTORIES, "test", 1) == best
    assert order_by_signal(CANDIDATES, rows, best).tolist() == [[4, 6, 5], [6, 4, 5]]


def test_of_equal_signals_the_generators_order_is_named():
    rows = rows_by_hand(CANDIDATES)
    assert best_signal(CANDIDATES, rows, HISTORIES, "test", 1) == "log_prob"


def test_a_ranker_that_gives_nan_is_refused():
    users, places = CANDIDATES.items.nonzero(as_tuple=True)
    with pytest.raises(UserError, match="scores must be numbers, but 6 of 6 are NaN"):
        reorder(CANDIDATES, users, places, torch.full((6,), torch.nan))
