"""A memory of transitions beside any model that scores all items; what it is made of and its share are chosen on
validation, from which no pair was counted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.memory.transitions import Transitions, mixed
from genrec.networks.sequential.repeats import RepeatBias
from genrec.retrieval.ranking import ScoresItems
from genrec.retrieval.ranks import discounted_gain, ranks_from_scores
from genrec.sequences.histories import Examples, Histories

BATCH = 256


@dataclass(frozen=True)
class TransitionSettings:
    """The arguments of `Transitions.fit`; by default those of plain co-occurrence."""

    window: int = 3
    backward: float = 1.0
    power: float = 0.0
    num_items: int = 10
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
    chosen = TransitionSettings()
    best, gain = chosen, -1.0
    for name, values in {"window": (chosen.window,), **ALTERNATIVES}.items():
        for settings in [replace(chosen, **{name: value}) for value in values]:
            new_gain = _gain(_fitted(histories, settings), histories, examples)
            if new_gain > gain:
                best, gain = settings, new_gain
        chosen = best
    return _fitted(histories, chosen), chosen


def _fitted(histories: Histories, settings: TransitionSettings) -> Transitions:
    learned = histories.train_part()
    return Transitions.fit(learned.items, learned.offsets, learned.n_items, **asdict(settings))


class WithMemory:
    """A model and a memory as one distribution over the next item.

    Args:
        score: histories (b, t) to logits (b, n_items + 1).
        share: the memory's.
        repeats: what the model has learned of repeats; it holds for what the memory says, too.
    """

    def __init__(self, score: ScoresItems, memory: Transitions, share: float, repeats: RepeatBias | None) -> None:
        self.score = score
        self.memory = memory
        self.share = share
        self.repeats = repeats

    def scores(self, history: Tensor) -> Tensor:
        """Log-probabilities (b, n_items + 1), column = item_id."""
        return next(self.mixtures(history, [self.share]))

    def mixtures(self, history: Tensor, shares: Sequence[float]) -> Iterator[Tensor]:
        """As `scores`, for each of some shares."""
        scores, remembered = self.score(history), self.remembered(history)
        return (mixed(scores, remembered, share) for share in shares)

    def remembered(self, history: Tensor) -> Tensor:
        """The memory's probabilities, (b, n_items + 1)."""
        probabilities = self.memory(history)
        if self.repeats is None:
            return probabilities
        factors = self.repeats.add_to(torch.zeros_like(probabilities), history).exp()
        probabilities = probabilities * factors
        return probabilities / probabilities.sum(1, keepdim=True).clamp_min(torch.finfo(probabilities.dtype).tiny)


def choose_share(
    model: WithMemory, shares: Sequence[float], histories: Histories, max_history: int, n_users: int, seed: int
) -> float:
    """The share of the memory that ranks validation best, the smallest of equals.

    Args:
        max_history: how many of a user's last items the model is given.
        n_users: how many users, drawn by `seed`, decide; all if there are fewer.
    """
    examples = _drawn(histories, n_users, seed).cut(max_history)
    return shares[int(np.argmax(_gains(histories, examples, lambda history: model.mixtures(history, shares))))]


def _drawn(histories: Histories, n_users: int, seed: int) -> Examples:
    examples = histories.examples("validation")
    return examples.take(np.sort(np.random.default_rng(seed).permutation(len(examples))[:n_users]))


def _gain(memory: Transitions, histories: Histories, examples: Examples) -> float:
    return float(_gains(histories, examples, lambda history: [memory(history)])[0])


def _gains(
    histories: Histories, examples: Examples, candidates: Callable[[Tensor], Iterable[Tensor]]
) -> NDArray[np.float64]:
    """NDCG@10 of several ways to score, each (b, n_items + 1), items of the history excluded."""
    gains = []
    for first in range(0, len(examples), BATCH):
        batch = examples.take(np.arange(first, min(first + BATCH, len(examples))))
        history = torch.from_numpy(histories.padded(batch)).long()
        target = torch.from_numpy(histories.targets(batch)).long()
        ranks = [ranks_from_scores(each.scatter(1, history, -torch.inf), target) for each in candidates(history)]
        gains.append([discounted_gain(each, 10, torch.float64).sum() for each in ranks])
    return np.sum(gains, axis=0) / len(examples)
