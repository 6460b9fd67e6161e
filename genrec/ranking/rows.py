"""Candidates as rows that a ranker learns from or scores: the item, the history, and signals of both.

A ranker learns from the validation targets, which no generator has seen: what a generator has memorised it finds
likely, so on training targets its log-probability would tell the label.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.errors import UserError
from genrec.retrieval.candidates import Candidates
from genrec.retrieval.ranks import users_at_once
from genrec.retrieval.transitions import Transitions
from genrec.sequences.histories import Examples, Histories, Split

if TYPE_CHECKING:
    from genrec.retrieval.ranking import ScoresItems

SIGNALS = (
    "log_prob",
    "log_prob_below_best",
    "log_rank",
    "log_popularity",
    "sasrec_log_prob",
    "log_cooccurrence",
    "is_in_history",
)
USERS_AT_ONCE = 512
RARE = 1e-6  # the probability of a transition that was never seen


@dataclass(frozen=True)
class RankingRows:
    """A row for each candidate, user by user, as they stand in the lists.

    Attributes:
        features: item_id (n_rows,), history (n_rows, max_history), signals (n_rows, n_signals).
        clicks: (n_rows,) float32, 1 where the candidate is the user's held-out item.
        ratings: (n_rows,) float32, how the user rated it, NaN where that is not known.
        users: (n_rows,) int64, rows of the candidates' table, one an example.
        places: (n_rows,) int64, columns of the candidates' table.
    """

    features: dict[str, Tensor]
    clicks: Tensor
    ratings: Tensor
    users: Tensor
    places: Tensor

    def of_users(self, users: Tensor) -> "RankingRows":
        """The rows of some examples, bool (n_examples,)."""
        chosen = users[self.users]
        return RankingRows(
            {name: value[chosen] for name, value in self.features.items()},
            self.clicks[chosen], self.ratings[chosen], self.users[chosen], self.places[chosen],
        )  # fmt: skip


@dataclass(frozen=True)
class RowBuilder:
    """Describes candidates by what is known before the held-out item.

    Attributes:
        counts: (n_items + 1,) training interactions of each item.
        score_sequence: histories (batch, length) to a sequence model's scores (batch, n_items + 1).
        transitions: which items stood near which, on the CPU.
        device: where the sequence model computes; all rows lie on the CPU.
    """

    histories: Histories
    counts: NDArray[np.int64]
    score_sequence: "ScoresItems"
    transitions: Transitions
    max_history: int
    device: torch.device = torch.device("cpu")

    @classmethod
    def fit(
        cls,
        histories: Histories,
        score_sequence: "ScoresItems",
        transitions: Transitions,
        max_history: int,
        device: torch.device,
    ) -> "RowBuilder":
        """Count popularity in the training part."""
        counts = histories.train_counts()
        return cls(histories, counts, score_sequence, transitions, max_history, device)

    def rows(self, candidates: Candidates, split: Split, ratings: NDArray[np.float32] | None = None) -> RankingRows:
        """A row for each candidate.

        Args:
            ratings: one for each of `histories.items`; None where the source has none.
        """
        examples = self.histories.examples(split)
        users, places = candidates.items.nonzero(as_tuple=True)
        items = candidates.items[users, places]
        short = self.histories.padded(examples.cut(self.max_history), self.max_history)
        history = torch.from_numpy(short).long()
        parts = np.split(np.arange(len(examples)), np.arange(0, len(examples), self._users_at_once)[1:])
        signals = torch.cat([self._signals_of(candidates, examples, history, users) for users in parts])
        clicks = items == torch.from_numpy(self.histories.targets(examples)).long()[users]
        given = torch.full((len(examples),), torch.nan)
        if ratings is not None:
            given = torch.from_numpy(ratings[examples.ends])
        return RankingRows(
            {"item_id": items, "history": history[users], "signals": signals[users, places]},
            clicks.float(), torch.where(clicks, given[users], torch.nan), users, places,
        )  # fmt: skip

    def signals(self, candidates: Candidates, history: Tensor, seen: Tensor) -> Tensor:
        """(n_users, n, n_signals), those of `SIGNALS`.

        Args:
            history: (n_users, max_history) int64, each user's last items, padded with 0 on the right.
            seen: (n_users, longest) int64, their whole histories.
        """
        return torch.cat([self._own_signals(candidates), self._other_signals(candidates.items, history, seen)], dim=-1)

    @property
    def _users_at_once(self) -> int:
        """How many are compared with whole histories, and have all items scored, at once."""
        return users_at_once(self.histories.n_items, USERS_AT_ONCE)

    def _signals_of(
        self, candidates: Candidates, examples: Examples, history: Tensor, users: NDArray[np.int64]
    ) -> Tensor:
        """Those of some users."""
        part = Candidates(candidates.items[users], candidates.log_probs[users])
        seen = torch.from_numpy(self.histories.padded(examples.take(users))).long()
        return self.signals(part, history[users], seen)

    def _own_signals(self, candidates: Candidates) -> Tensor:
        """(n_users, n, 4): what the generator says, and popularity."""
        log_probs = candidates.log_probs
        ranks = torch.arange(1, log_probs.shape[1] + 1).float().log().expand_as(log_probs)
        popularity = torch.from_numpy(self.counts).float().log1p()[candidates.items]
        return torch.stack([log_probs, log_probs - log_probs[:, :1], ranks, popularity], dim=-1)

    def _other_signals(self, items: Tensor, history: Tensor, seen: Tensor) -> Tensor:
        """(n_users, n, 3): what other models say, and whether the item is in the whole history."""
        scores = self.score_sequence(history.to(self.device))
        sequence = scores.log_softmax(1).gather(1, items.to(self.device)).cpu()
        cooccurrence = self.transitions(history).gather(1, items).clamp_min(RARE).log()
        is_seen = (items[:, :, None] == seen[:, None]).any(2).float()
        return torch.stack([sequence, cooccurrence, is_seen], dim=-1)


def draw_users(user_ids: NDArray[np.int64], share: float, seed: int) -> Tensor:
    """bool (n_examples,): those of a random share of the users, at least one, never all.

    Args:
        user_ids: (n_examples,), ascending.

    Raises:
        UserError: there is but one.
    """
    users, places = np.unique(user_ids, return_inverse=True)
    n_users = len(users)
    if n_users < 2:
        raise UserError(
            f"a ranker needs users to learn from and others to choose its epoch by, at least 2, got {n_users};"
            " prepare data of more users"
        )
    n_drawn = min(max(round(share * n_users), 1), n_users - 1)
    drawn = torch.zeros(n_users, dtype=torch.bool)
    drawn[np.random.default_rng(seed).permutation(n_users)[:n_drawn]] = True
    return drawn[torch.from_numpy(places)]
