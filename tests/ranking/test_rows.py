"""Candidates as rows: which are clicks, what is known of them, and that nothing held out is."""

import numpy as np
import pytest
import torch

from genrec.errors import UserError
from genrec.ranking.rows import RARE, SIGNALS, RowBuilder, draw_users
from genrec.retrieval.candidates import Candidates
from genrec.retrieval.transitions import Transitions
from genrec.sequences.histories import Histories

# two users of items 1..6; validation targets are 4 and 5, test targets 5 and 6
HISTORIES = Histories(np.array([1, 2, 3, 4, 5, 2, 1, 5, 6], np.int32), np.array([0, 5, 9]), n_items=6)
CANDIDATES = Candidates(torch.tensor([[4, 1], [6, 0]]), torch.tensor([[-1.0, -3.0], [-0.5, -torch.inf]]))
RATINGS = np.arange(9, dtype=np.float32)
USERS = np.arange(1, 101)


def builder(**options):
    def score(history):
        return history.float().sum(1, keepdim=True) * torch.ones(1, 7)

    settings = {
        "histories": HISTORIES, "counts": np.array([0, 2, 2, 1, 0, 0, 0]), "score_sequence": score,
        "transitions": lambda history: score(history) / 10, "max_history": 3,
    }  # fmt: skip
    return RowBuilder(**(settings | options))


def test_a_row_for_each_candidate_and_the_held_out_item_is_the_click():
    rows = builder().rows(CANDIDATES, "validation", RATINGS)
    assert rows.features["item_id"].tolist() == [4, 1, 6]
    assert rows.features["history"].tolist() == [[1, 2, 3], [1, 2, 3], [2, 1, 0]]
    assert rows.users.tolist() == [0, 0, 1]
    assert rows.clicks.tolist() == [1, 0, 0]
    assert rows.ratings[0] == 3  # the fourth interaction's
    assert rows.ratings[1:].isnan().all()


def test_signals_stand_in_their_order():
    rows = builder().rows(CANDIDATES, "validation")
    signals = dict(zip(SIGNALS, rows.features["signals"].T, strict=True))
    assert signals["log_prob"].tolist() == [-1, -3, -0.5]
    assert signals["log_prob_below_best"].tolist() == [0, -2, 0]
    assert torch.allclose(signals["log_rank"], torch.tensor([1.0, 2.0, 1.0]).log())
    assert torch.allclose(signals["log_popularity"], torch.tensor([0.0, 2.0, 0.0]).log1p())
    assert torch.allclose(signals["sasrec_log_prob"], torch.tensor([1 / 7] * 3).log())
    assert torch.allclose(signals["log_cooccurrence"], torch.tensor([0.6, 0.6, 0.3]).log())
    assert signals["is_in_history"].tolist() == [0, 1, 0]


def test_what_is_held_out_changes_no_feature():
    changed = HISTORIES.items.copy()
    changed[[3, 4, 7, 8]] = 6  # both users' last two
    other = Histories(changed, HISTORIES.offsets, n_items=6)
    score = torch.nn.Embedding(7, 7)
    fitted = []
    for each in (HISTORIES, other):
        train = each.train_part()
        transitions = Transitions.fit(train.items, train.offsets, each.n_items)
        made = RowBuilder.fit(each, lambda h: score(h).sum(1).detach(), transitions, 3, torch.device("cpu"))
        fitted.append(made.rows(CANDIDATES, "validation"))
    for name in ("item_id", "history", "signals"):
        assert torch.equal(fitted[0].features[name], fitted[1].features[name])


def test_users_are_split_whole():
    holdout = torch.tensor([False, True])
    rows = builder().rows(CANDIDATES, "validation")
    assert rows.of_users(~holdout).users.tolist() == [0, 0]
    assert rows.of_users(holdout).users.tolist() == [1]


def test_a_share_of_the_users_is_drawn_by_the_seed():
    assert draw_users(USERS, 0.2, seed=0).sum() == 20
    assert torch.equal(draw_users(USERS, 0.2, seed=0), draw_users(USERS, 0.2, seed=0))
    assert not torch.equal(draw_users(USERS, 0.2, seed=0), draw_users(USERS, 0.2, seed=1))
    assert draw_users(USERS[:2], 0.01, seed=0).sum() == draw_users(USERS[:2], 0.99, seed=0).sum() == 1


def test_one_user_cannot_be_held_out_of_one():
    """No user was held out, and the training ended in "max() arg is an empty sequence"."""
    with pytest.raises(UserError, match=r"a ranker needs users to learn from and others .* at least 2, got 1; prepare"):
        draw_users(USERS[:1], 0.2, seed=0)


def test_a_transition_that_was_never_seen_is_rare_and_not_impossible():
    rows = builder(transitions=lambda history: torch.zeros(len(history), 7)).rows(CANDIDATES, "validation")
    signals = dict(zip(SIGNALS, rows.features["signals"].T, strict=True))
    assert torch.allclose(signals["log_cooccurrence"], torch.tensor(RARE).log())
