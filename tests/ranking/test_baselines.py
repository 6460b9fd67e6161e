"""Popularity and item co-occurrence against counting by hand."""

from collections import Counter

import numpy as np
import pytest
import torch

from genrec.ranking.baselines import ItemKnn, Popularity


def test_popularity_counts_interactions():
    model = Popularity.fit(np.array([3, 1, 3, 3, 2], np.int32), n_items=4)
    assert model.scores(torch.tensor([[1]])).tolist() == [[0, 1, 1, 3, 0]]


def test_popularity_gives_every_user_the_same_scores():
    model = Popularity.fit(np.array([3, 1, 3], np.int32), n_items=3)
    first, second = model.scores(torch.tensor([[1, 0], [2, 3]]))
    assert first.tolist() == second.tolist()


# Two users: 1 2 3 and 2 1.
ITEMS, OFFSETS = np.array([1, 2, 3, 2, 1], np.int32), np.array([0, 3, 5])


def test_neighbours_are_counted_in_both_directions():
    model = ItemKnn.fit(ITEMS, OFFSETS, n_items=3, history=1, window=1)
    # 1-2 twice, 2-3 once
    assert model.cooccurrence.toarray()[1:, 1:].tolist() == [[0, 2, 0], [2, 0, 1], [0, 1, 0]]


def test_a_wider_window_counts_items_two_steps_away():
    model = ItemKnn.fit(ITEMS, OFFSETS, n_items=3, history=1, window=2)
    assert model.cooccurrence.toarray()[1:, 1:].tolist() == [[0, 2, 1], [2, 0, 1], [1, 1, 0]]


def test_a_window_longer_than_all_histories_is_no_mistake():
    model = ItemKnn.fit(ITEMS, OFFSETS, n_items=3, history=1, window=50)
    assert model.cooccurrence.toarray()[1:, 1:].tolist() == [[0, 2, 1], [2, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize("window", [1, 3])
def test_the_counts_equal_those_of_plain_loops(window):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, 40)
    items, offsets = rng.integers(1, 13, lengths.sum()).astype(np.int32), np.concatenate([[0], np.cumsum(lengths)])
    expected = Counter()
    for start, end in zip(offsets, offsets[1:], strict=False):
        for i in range(start, end):
            for j in range(start, end):
                expected[items[i], items[j]] += 0 < abs(i - j) <= window
    counts = ItemKnn.fit(items, offsets, 12, history=1, window=window).cooccurrence.toarray()
    assert counts.tolist() == [[expected[i, j] for j in range(13)] for i in range(13)]


def test_the_last_items_vote():
    model = ItemKnn.fit(ITEMS, OFFSETS, n_items=3, history=2, window=1)
    counts = model.cooccurrence.toarray()
    history = torch.tensor([[1, 2, 3, 0], [1, 0, 0, 0]])
    assert model.scores(history).tolist() == [(counts[2] + counts[3]).tolist(), counts[1].tolist()]


def test_an_item_that_stands_twice_votes_twice():
    model = ItemKnn.fit(ITEMS, OFFSETS, n_items=3, history=3, window=1)
    counts = model.cooccurrence.toarray()
    assert model.scores(torch.tensor([[2, 1, 2]]))[0].tolist() == (2 * counts[2] + counts[1]).tolist()


def test_a_history_of_padding_scores_nothing():
    model = ItemKnn.fit(ITEMS, OFFSETS, n_items=3, history=2, window=1)
    assert model.scores(torch.zeros(1, 3, dtype=torch.long)).tolist() == [[0, 0, 0, 0]]
