"""A model's best items among those that are allowed: k of them wherever k exist, and a sample of them if asked.

What is not forbidden is what the evaluation lists, in its order: constraints only fill up what would be short.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from genrec.generation.beam_search import Shape
from genrec.generation.item_generator import ItemGenerator
from genrec.generation.prefix_tree import tree_of_items
from genrec.generation.sampling import shaped
from genrec.layers.history_cut import last_items
from genrec.retrieval.ranks import top_items


class Ranked(NamedTuple):
    """Items of each user, best first, or where they are sampled in the order in which they were drawn.

    Attributes:
        items: (batch, k) int64; 0 where a user has fewer than k allowed items.
        log_probs: (batch, k) float32, natural logarithms; -inf where there is no item.
    """

    items: Tensor
    log_probs: Tensor


@dataclass(frozen=True)
class Sampling:
    """How far a list may leave the likeliest items: above temperature 1 farther than the model says, below less."""

    temperature: float
    seed: int

    def random(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)


class RanksItems(Protocol):
    """What ranks the catalogue for histories."""

    def rank(self, history: Tensor, allowed: Tensor, k: int, sampling: Sampling | None = None) -> Ranked:
        """The best k items that are allowed.

        Args:
            history: (batch, length) int64 item_ids, padded with 0 on the right, whole.
            allowed: (batch, n_items + 1) bool, column = item_id; that of padding is False.
            sampling: draw k different items in place of taking the best.
        """
        ...


@dataclass(frozen=True)
class Scoring:
    """A model that scores all items.

    Attributes:
        score: (batch, length) item_ids to (batch, n_items + 1).
        max_history: how many last items it is given.
    """

    score: Callable[[Tensor], Tensor]
    max_history: int

    def rank(self, history: Tensor, allowed: Tensor, k: int, sampling: Sampling | None = None) -> Ranked:
        scores = self.score(last_items(history, self.max_history)).clone()
        scores[:, 0] = -torch.inf
        return best_allowed(scores, scores.log_softmax(1), allowed, k, sampling)


@dataclass(frozen=True)
class Searching:
    """A model that searches in semantic IDs.

    Attributes:
        generator: it has `generate(history, n_beams)`; with `ItemGenerator` the search itself is constrained.
        n_beams: as in the evaluation; of more items than these so many beams are used as items are asked for.
    """

    generator: Any
    max_history: int
    n_beams: int

    def rank(self, history: Tensor, allowed: Tensor, k: int, sampling: Sampling | None = None) -> Ranked:
        history = last_items(history, self.max_history)
        shape = None if sampling is None else (lambda step: shaped(step, sampling.temperature))
        if isinstance(self.generator, ItemGenerator):
            random = None if sampling is None else sampling.random()
            found = self.generator.generate(history, max(self.n_beams, k), shape=shape, random=random)
        elif sampling is not None:
            return self._all_items(history, allowed, k, sampling)
        else:
            found = self.generator.generate(history, max(self.n_beams, k))
        ranked = first_allowed(found.items, found.log_probs, allowed, k)
        wanted = allowed.sum(1).clamp_max(k)
        short = ((ranked.items != 0).sum(1) < wanted).nonzero()[:, 0]
        for row in short[:, None]:  # few: the search has gone past the constraints of these
            left = allowed[row].scatter(1, ranked.items[row], False)
            more = self._search_allowed(history[row], left, k, shape, sampling)
            filled = joined(Ranked(ranked.items[row], ranked.log_probs[row]), more, k)
            ranked.items[row], ranked.log_probs[row] = filled.items, filled.log_probs
        return ranked

    def _search_allowed(
        self, history: Tensor, allowed: Tensor, k: int, shape: Shape | None, sampling: Sampling | None
    ) -> Ranked:
        """One user's search in the tree of the allowed items alone: k beams end in k items, as each prefix has one."""
        if not isinstance(self.generator, ItemGenerator):
            return self._all_items(history, allowed, k, sampling)
        tree = tree_of_items(self.generator.code_table, allowed[0].nonzero()[:, 0])
        random = None if sampling is None else sampling.random()
        found = self.generator.generate(history, max(self.n_beams, k), shape=shape, random=random, tree=tree)
        return first_allowed(found.items, found.log_probs, allowed, k)

    def _all_items(self, history: Tensor, allowed: Tensor, k: int, sampling: Sampling | None) -> Ranked:
        """By a search that is as wide as the catalogue, for generators whose tree cannot be cut."""
        n_items = allowed.shape[1] - 1
        found = self.generator.generate(history, n_items)
        scores = found.log_probs.new_full(allowed.shape, -torch.inf).scatter(1, found.items, found.log_probs)
        scores[:, 0] = -torch.inf
        return best_allowed(scores, scores, allowed, k, sampling)


def best_allowed(scores: Tensor, log_probs: Tensor, allowed: Tensor, k: int, sampling: Sampling | None) -> Ranked:
    """The best of all items by their scores, or a sample without replacement by the Gumbel-top-k trick.

    Args:
        scores, log_probs: (batch, n_items + 1).
    """
    keys = scores
    if sampling is not None:
        noise = torch.empty_like(scores).exponential_(generator=sampling.random()).log()
        keys = log_probs / sampling.temperature - noise
    items = top_items(keys.masked_fill(~allowed, -torch.inf), k)
    return Ranked(items, log_probs.gather(1, items).float().masked_fill(items == 0, -torch.inf))


def first_allowed(items: Tensor, log_probs: Tensor, allowed: Tensor, k: int) -> Ranked:
    """The first k allowed items of lists; padding is never allowed."""
    kept = allowed.gather(1, items)
    order = (~kept).int().argsort(dim=1, stable=True)[:, :k]
    there = kept.gather(1, order)
    ranked = Ranked(
        items.gather(1, order).masked_fill(~there, 0),
        log_probs.gather(1, order).float().masked_fill(~there, -torch.inf),
    )
    return _padded(ranked, k)


def joined(first: Ranked, more: Ranked, k: int) -> Ranked:
    items, log_probs = torch.cat([first.items, more.items], 1), torch.cat([first.log_probs, more.log_probs], 1)
    order = (items == 0).int().argsort(dim=1, stable=True)[:, :k]
    return _padded(Ranked(items.gather(1, order), log_probs.gather(1, order)), k)


def _padded(ranked: Ranked, k: int) -> Ranked:
    missing = k - ranked.items.shape[1]
    pad = torch.nn.functional.pad
    return Ranked(pad(ranked.items, (0, missing)), pad(ranked.log_probs, (0, missing), value=-torch.inf))
