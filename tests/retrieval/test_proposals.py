"""What a model proposes, and the same items in another order."""

import math

import numpy as np
import pytest
import torch

from genrec.generation.generated_items import GeneratedItems
from genrec.retrieval.candidates import Candidates
from genrec.retrieval.proposals import reorder, retrieve, search_by_scores
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
    items, log_probs = search_by_scores(lambda history: scores, 2)(torch.zeros(1, 1))
    assert items.tolist() == [[3, 2]]
    assert log_probs.exp().tolist()[0] == pytest.approx([5 / 8, 2 / 8])


def test_ranking_changes_the_order_and_never_the_set_of_items():
    items = torch.tensor([[4, 1, 5], [6, 2, 0]])
    candidates = Candidates(items, torch.zeros(2, 3))
    users, places = items.nonzero(as_tuple=True)
    reordered = reorder(candidates, users, places, torch.tensor([0.1, 0.9, 0.1, 0.2, 0.3]))
    assert reordered.tolist() == [[1, 4, 5], [2, 6, 0]]
    random = reorder(candidates, users, places, torch.rand(5))
    assert torch.equal(random.sort(1).values, items.sort(1).values)
