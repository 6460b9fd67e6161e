"""How well a model recommends items that came after its training: recall of new and of known targets, by the boost."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from genrec.add_items.holdout import HeldOut
from genrec.evaluation.figures import bootstrap_intervals
from genrec.retrieval.ranks import ranks_in_lists
from genrec.sequences.histories import Split
from genrec.serving.constrained import RanksItems
from genrec.serving.new_items import raised, ranked_apart

K = 10
BOOSTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
BATCH = 256


@dataclass(frozen=True)
class Hits:
    """Who found what they took next.

    Attributes:
        is_new: (n,) whether a user's target is a new item.
        found: (len(BOOSTS), n) whether it is among the first K, at each boost.
    """

    is_new: NDArray[np.bool_]
    found: NDArray[np.bool_]

    def best_boost(self) -> int:
        """The place of the boost with the highest harmonic mean of both recalls (Xian et al. 2017, arXiv 1703.04394).

        Without new or without known targets it is that of no boost.
        """
        if self.is_new.all() or not self.is_new.any():
            return 0
        new, known = (self.found[:, users].mean(axis=1) for users in (self.is_new, ~self.is_new))
        return int(np.argmax(2 * new * known / np.maximum(new + known, 1e-12)))


def measure(
    model: RanksItems, held: HeldOut, name: str, n_resamples: int, most_known: int | None = None
) -> list[dict[str, Any]]:
    """Recall on the test without a boost, and with the one that validation chose if that is another.

    Args:
        model: it ranks all items of `held.everything`.
        name: for the progress bar.
        most_known: of how many users with a known target; None for all.

    Returns:
        A row each: `boost`; `new` and `known`, each (recall, low, high) with a 95 % interval over users, or None where
        there is no such target; `n_new` and `n_known`, how many targets these are.
    """
    best = hits(model, held, "validation", name, most_known).best_boost()
    tested = hits(model, held, "test", name, most_known)
    return [_row(tested, place, n_resamples) for place in dict.fromkeys((0, best))]


def _row(hits: Hits, place: int, n_resamples: int) -> dict[str, Any]:
    row: dict[str, Any] = {"boost": BOOSTS[place]}
    for name, users in (("new", hits.is_new), ("known", ~hits.is_new)):
        values = torch.from_numpy(hits.found[place, users]).float()
        row[f"n_{name}"] = len(values)
        row[name] = None
        if len(values):
            row[name] = (float(values.mean()), *bootstrap_intervals({name: values}, n_resamples, seed=0)[name])
    return row


@torch.inference_mode()
def hits(model: RanksItems, held: HeldOut, split: Split, name: str, most_known: int | None) -> Hits:
    """Ask a model for each user of a split, history excluded, new and known items side by side."""
    examples = held.everything.examples(split)
    is_new = held.everything.targets(examples) > held.n_known
    if most_known is not None:
        others = np.random.default_rng(0).permutation(np.flatnonzero(~is_new))[:most_known]
        chosen = np.sort(np.concatenate([np.flatnonzero(is_new), others]))
        examples, is_new = examples.take(chosen), is_new[chosen]
    found = []
    for first in tqdm(range(0, len(examples), BATCH), f"{name}, {split}", unit="batch"):
        part = examples.take(np.arange(first, min(first + BATCH, len(examples))))
        history = torch.from_numpy(held.everything.padded(part)).long()
        targets = torch.from_numpy(held.everything.targets(part)).long()
        lists = _lists(model, held, history)
        found.append(torch.stack([ranks_in_lists(items, targets) <= K for items in lists]))
    return Hits(is_new, torch.cat(found, dim=1).numpy())


def _lists(model: RanksItems, held: HeldOut, history: Tensor) -> Iterator[Tensor]:
    """At each boost the first K items, (batch, K) item_ids; 0 is none."""
    allowed = torch.ones(len(history), held.everything.n_items + 1, dtype=torch.bool).scatter(1, history, False)
    allowed[:, 0] = False
    among_all, new = ranked_apart(model, held.n_known, history, allowed, K)
    for boost in BOOSTS:
        yield raised(among_all, new, held.n_known, boost, K).items if boost else among_all.items
