"""A memory of transitions beside any model, whether it scores all items or searches.

What it is made of and its share are chosen on validation, from which no pair was counted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.layers.shards import over_batches
from genrec.retrieval.pair_counts import PairCounter
from genrec.retrieval.ranking import CPU, ScoresItems, rank_found
from genrec.retrieval.ranks import discounted_gain, ranks_from_scores, ranks_in_lists, top_items, users_at_once
from genrec.retrieval.transitions import Transitions, joined, mixed
from genrec.sequences.histories import Examples, Histories, Split

if TYPE_CHECKING:
    from genrec.generation.generated_items import GeneratedItems

BATCH = 256
DECIDING_USERS = 3000
LAST_ITEMS = 10  # of a history, which have a say
SHARES = tuple(i / 10 for i in range(10))
# How many items a list of beams and a memory's own best holds.
LIST = 100


@dataclass(frozen=True)
class TransitionSettings:
    """The arguments of `Transitions.fit`; by default those of plain co-occurrence."""

    window: int = 3
    backward: float = 1.0
    power: float = 0.0
    num_items: int = LAST_ITEMS
    decay: float = 1.0


ALTERNATIVES: dict[str, tuple[Any, ...]] = {
    "decay": (0.7, 0.5),
    "backward": (0.5, 0.25),
    "window": (1, 10),
    "power": (0.3, 1.0),
}


def choose_transitions(histories: Histories, n_users: int, seed: int) -> tuple[Transitions, TransitionSettings]:
    """Count the training interactions, each setting as it ranks validation best, one after another.

    Args:
        n_users: how many users, drawn by `seed`, decide; all if there are fewer.
    """
    examples = _drawn(histories, n_users, seed)
    asked = np.unique(histories.padded(examples.cut(LAST_ITEMS))).astype(np.int64)  # whose rows alone decide
    counted = lru_cache(maxsize=1)(lambda window: list(_counter(histories, window).of_items(asked)))
    chosen = TransitionSettings()
    best, gain = chosen, -1.0
    for name, values in {"window": (chosen.window,), **ALTERNATIVES}.items():
        for settings in [replace(chosen, **{name: value}) for value in values]:
            rows = [counts.weighed(settings.backward, settings.power) for counts in counted(settings.window)]
            table = joined(rows, asked, histories.n_items, sum(part.nnz for part in rows))
            new_gain = _gain(Transitions(table, settings.num_items, settings.decay), histories, examples)
            if new_gain > gain:
                best, gain = settings, new_gain
        chosen = best
    counted.cache_clear()
    how = {name: value for name, value in asdict(chosen).items() if name != "window"}
    return Transitions.counted(_counter(histories, chosen.window), **how), chosen


def _counter(histories: Histories, window: int) -> PairCounter:
    """Of the training part, block of users by block of users."""
    return PairCounter(histories.train_blocks, histories.n_items, window)


class KnowsRepeats(Protocol):
    """What a model has learned of repeats: logits to add for the items of a history."""

    def add_to(self, scores: Tensor, history: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class WithMemory:
    """A model and a memory as one distribution over the next item.

    Attributes:
        score: histories (b, t) to logits (b, n_items + 1).
        share: the memory's.
        repeats: what the model has learned of repeats; it holds for what the memory says, too.
    """

    score: ScoresItems
    memory: Transitions
    share: float
    repeats: KnowsRepeats | None

    def scores(self, history: Tensor) -> Tensor:
        """Log-probabilities (b, n_items + 1), column = item_id."""
        return next(self.mixtures(history, [self.share]))

    def mixtures(self, history: Tensor, shares: Sequence[float]) -> Iterator[Tensor]:
        """As `scores`, for each of some shares."""
        chances, remembered = self.score(history).softmax(1), self.remembered(history)
        return (mixed(chances, remembered, share) for share in shares)

    def remembered(self, history: Tensor) -> Tensor:
        """The memory's probabilities, (b, n_items + 1)."""
        probabilities = self.memory(history)
        if self.repeats is None:
            return probabilities
        factors = self.repeats.add_to(torch.zeros_like(probabilities), history).exp()
        probabilities = probabilities * factors
        return probabilities / probabilities.sum(1, keepdim=True).clamp_min(torch.finfo(probabilities.dtype).tiny)


def choose_share(
    model: WithMemory,
    shares: Sequence[float],
    histories: Histories,
    max_history: int,
    n_users: int,
    seed: int,
    device: torch.device = CPU,
) -> float:
    """The share of the memory that ranks validation best, the smallest of equals.

    Args:
        max_history: how many of a user's last items the model is given.
        n_users: how many users, drawn by `seed`, decide; all if there are fewer.
        device: where the model computes.
    """
    examples = _drawn(histories, n_users, seed).cut(max_history)
    gains = _gains(histories, examples, lambda history: model.mixtures(history, shares), device)
    return shares[int(np.argmax(gains))]


@dataclass(frozen=True)
class BeamsWithMemory:
    """What a search found for each user, and a memory, as one distribution over the next item.

    What no beam reaches has only the memory's share; the search itself is not run again.

    Args:
        found: for each split, what the search found for its examples.
    """

    found: "dict[Split, GeneratedItems]"
    memory: Transitions
    histories: Histories

    def lists(self, split: Split, share: float) -> Tensor:
        """(n_examples, LIST) int64 item_ids, best first, 0 where neither has an item."""
        found, examples = self.found[split], self.histories.examples(split).cut(self.memory.num_items)
        n_users = users_at_once(self.histories.n_items, BATCH)

        def best_of(rows: slice) -> Tensor:
            history = torch.from_numpy(self.histories.padded(examples.take(np.arange(len(examples))[rows]))).long()
            both = mixed_with_found(found.items[rows], found.log_probs[rows], self.memory(history), share)
            best = top_items(both, LIST)
            return best.masked_fill(both.gather(1, best) == -torch.inf, 0)

        return torch.cat(over_batches(best_of, [slice(at, at + n_users) for at in range(0, len(examples), n_users)]))

    def best_share(self, shares: Sequence[float], batch_size: int) -> float:
        """The share of the memory that ranks validation best, the smallest of equals."""
        gains = []
        for share in shares:
            ranked = rank_found(self.lists("validation", share), self.histories, "validation", 10, batch_size)
            ranks = ranks_in_lists(ranked.lists["excluded"], ranked.targets)
            gains.append(float(discounted_gain(ranks, 10, torch.float64).sum()))
        return shares[int(np.argmax(gains))]


def mixed_with_found(items: Tensor, log_probs: Tensor, remembered: Tensor, share: float) -> Tensor:
    """Log-probabilities (b, n_items + 1) of what a search found and of a memory; -inf where neither has an item.

    Args:
        items: (b, n) int64 item_ids, 0 is none.
        log_probs: (b, n); what is found counts as all that the model knows.
        remembered: (b, n_items + 1), the memory's probabilities.
    """
    scores = remembered.new_full(remembered.shape, -torch.inf).scatter(1, items, log_probs)
    scores[:, 0] = -torch.inf
    return mixed(scores.softmax(1), remembered, share)


def _drawn(histories: Histories, n_users: int, seed: int) -> Examples:
    examples = histories.examples("validation")
    return examples.take(np.sort(np.random.default_rng(seed).permutation(len(examples))[:n_users]))


def _gain(memory: Transitions, histories: Histories, examples: Examples) -> float:
    return float(_gains(histories, examples, lambda history: [memory(history)])[0])


def _gains(
    histories: Histories,
    examples: Examples,
    candidates: Callable[[Tensor], Iterable[Tensor]],
    device: torch.device = CPU,
) -> NDArray[np.float64]:
    """NDCG@10 of several ways to score, each (b, n_items + 1), items of the history excluded."""

    def gains_of(batch: Examples) -> list[float]:
        history = torch.from_numpy(histories.padded(batch)).long().to(device)
        target = torch.from_numpy(histories.targets(batch)).long().to(device)
        ranks = [ranks_from_scores(each.scatter(1, history, -torch.inf), target) for each in candidates(history)]
        return [float(discounted_gain(each, 10, torch.float64).sum()) for each in ranks]

    n_users = users_at_once(histories.n_items, BATCH)
    starts = range(0, len(examples), n_users)
    batches = (examples.take(np.arange(first, min(first + n_users, len(examples)))) for first in starts)
    return np.sum(over_batches(gains_of, batches), axis=0) / len(examples)
