"""A model and what stands beside it: the memory of transitions, or a ranker that puts its candidates into order.

The lists are those of the evaluation; where these end, the model alone goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from genrec.layers.history_cut import last_items
from genrec.retrieval.candidates import Candidates
from genrec.retrieval.memory import KnowsRepeats, WithMemory, mixed_with_found
from genrec.retrieval.proposals import Search, reorder, search_by_generation, search_by_scores
from genrec.serving.constrained import (
    Ranked,
    RanksItems,
    Sampling,
    Scoring,
    Searching,
    best_allowed,
    first_allowed,
    joined,
)

if TYPE_CHECKING:
    from genrec.ranking.ranker import Ranker
    from genrec.ranking.rows import RowBuilder
    from genrec.retrieval.transitions import Transitions


@dataclass(frozen=True)
class Remembering:
    """A model and a memory as one distribution over the next item.

    Attributes:
        alone: the model; it goes on where both together know fewer items than are asked for.
        mixture: whole histories (batch, length) and how many items are asked for, to log-probabilities
            (batch, n_items + 1), -inf for what neither reaches.
    """

    alone: RanksItems
    mixture: Callable[[Tensor, int], Tensor]

    def rank(self, history: Tensor, allowed: Tensor, k: int, sampling: Sampling | None = None) -> Ranked:
        scores = self.mixture(history, k)
        first = best_allowed(scores, scores.log_softmax(1), allowed, k, sampling)
        return continued(first, self.alone, history, allowed, k, sampling)


def scoring_with_memory(
    alone: Scoring, memory: "Transitions", share: float, repeats: KnowsRepeats | None
) -> Remembering:
    """As `evaluate_scores` of stages/evaluate.py mixes them."""
    both = WithMemory(alone.score, memory, share, repeats)
    return Remembering(alone, lambda history, k: both.scores(last_items(history, alone.max_history)))


def searching_with_memory(alone: Searching, memory: "Transitions", share: float) -> Remembering:
    """As `BeamsWithMemory` mixes them: the search reads the model's own history, the memory its own."""

    def mixture(history: Tensor, k: int) -> Tensor:
        found = alone.generator.generate(last_items(history, alone.max_history), max(alone.n_beams, k))
        return mixed_with_found(found.items, found.log_probs, memory(history), share)

    return Remembering(alone, mixture)


@dataclass(frozen=True)
class Reranked:
    """A model's candidates in a ranker's order; scores are the logarithm of what the ranker orders by.

    Attributes:
        alone: the model; it goes on behind its candidates.
        search: what proposes the candidates, which may be items of the history; it reads max_history items.
        builder: what describes a candidate to the ranker.
        rating_weight: as in `Ranker.scores`.
    """

    alone: RanksItems
    search: Search
    max_history: int
    ranker: "Ranker"
    builder: "RowBuilder"
    rating_weight: float

    def rank(self, history: Tensor, allowed: Tensor, k: int, sampling: Sampling | None = None) -> Ranked:
        items, log_probs = self.search(last_items(history, self.max_history))
        candidates = Candidates(items, log_probs.float().masked_fill(items == 0, -torch.inf))
        users, places = items.nonzero(as_tuple=True)
        chances = self._chances(candidates, history, users, places)
        by_item = chances.new_full(allowed.shape, -torch.inf)
        # the logarithm of 0 would be no item
        by_item[users, items[users, places]] = chances.clamp_min(torch.finfo(chances.dtype).tiny).log()
        if sampling is None:
            listed = reorder(candidates, users, places, chances)
            first = first_allowed(listed, by_item.gather(1, listed), allowed, k)
        else:
            first = best_allowed(by_item, by_item, allowed, k, sampling)
        return continued(first, self.alone, history, allowed, k, sampling)

    def _chances(self, candidates: Candidates, history: Tensor, users: Tensor, places: Tensor) -> Tensor:
        """What the ranker gives each candidate, (n_rows,)."""
        width = self.builder.max_history
        short = last_items(history, width)
        short = F.pad(short, (0, width - short.shape[1]))
        signals = self.builder.signals(candidates, short, history)
        rows = {
            "item_id": candidates.items[users, places],
            "history": short[users],
            "signals": signals[users, places],
        }
        return self.ranker.scores(rows, self.rating_weight).float()


def candidates_of(alone: Scoring | Searching, n: int) -> Search:
    """How the stage `generate_candidates` lets a model propose n items."""
    return search_by_scores(alone.score, n) if isinstance(alone, Scoring) else search_by_generation(alone.generator, n)


def continued(
    first: Ranked, model: RanksItems, history: Tensor, allowed: Tensor, k: int, sampling: Sampling | None
) -> Ranked:
    """Lists that a model fills up where they hold fewer than k of the allowed items.

    Args:
        history, allowed, k, sampling: as in `RanksItems.rank`.
    """
    missing = ((first.items != 0).sum(1) < allowed.sum(1).clamp_max(k)).nonzero()[:, 0]
    if not len(missing):
        return first
    left = allowed[missing].scatter(1, first.items[missing], False)
    more = model.rank(history[missing], left, k, sampling)
    filled = joined(Ranked(first.items[missing], first.log_probs[missing]), more, k)
    items, log_probs = first.items.clone(), first.log_probs.clone()
    items[missing], log_probs[missing] = filled.items, filled.log_probs
    return Ranked(items, log_probs)
