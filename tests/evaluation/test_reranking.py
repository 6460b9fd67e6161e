"""The figures of reordered candidates, and the ceiling."""

import numpy as np
import pytest
import torch

from genrec.errors import UserError
from genrec.evaluation.reranking import SINGLE_SIGNALS, best_signal, measure_reordered, order_by_signal
from genrec.ranking.rows import SIGNALS, RankingRows
from genrec.retrieval.candidates import Candidates
from genrec.retrieval.proposals import reorder
from genrec.sequences.histories import Histories

# test targets are 4 and 6
HISTORIES = Histories(np.array([1, 2, 3, 4, 5, 2, 1, 6], np.int32), np.array([0, 4, 8]), n_items=6)


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
