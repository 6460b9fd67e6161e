"""The figures of reordered candidates, and the ceiling."""

import numpy as np
import torch

from genrec.evaluation.reranking import measure_reordered
from genrec.sequences.histories import Histories

# test targets are 4 and 6
HISTORIES = Histories(np.array([1, 2, 3, 4, 5, 2, 1, 6], np.int32), np.array([0, 4, 8]), n_items=6)


def test_the_ceiling_is_the_candidates_recall_under_each_protocol():
    lists = torch.tensor([[1, 5, 4], [2, 1, 3]])
    figures = measure_reordered(lists, HISTORIES, "test", (1, 2), 10, 0)
    kept, excluded = figures.values["kept"], figures.values["excluded"]
    assert (kept["recall_at_2"], kept["candidate_recall"]) == (0, 0.5)
    assert (excluded["recall_at_1"], excluded["recall_at_2"], excluded["candidate_recall"]) == (0, 0.5, 0.5)
