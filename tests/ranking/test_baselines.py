"""Popularity against counting by hand."""

import numpy as np
import torch

from genrec.ranking.baselines import Popularity


def test_popularity_counts_interactions():
    model = Popularity.fit(np.array([3, 1, 3, 3, 2], np.int32), n_items=4)
    assert model.scores(torch.tensor([[1]])).tolist() == [[0, 1, 1, 3, 0]]


def test_popularity_gives_every_user_the_same_scores():
    model = Popularity.fit(np.array([3, 1, 3], np.int32), n_items=3)
    first, second = model.scores(torch.tensor([[1, 0], [2, 3]]))
    assert first.tolist() == second.tolist()
