"""A model and a split become ranked items, with the history kept and with the history excluded.

Full ranking: every item of the catalogue competes, none is sampled. Of equal scores the lower item_id ranks first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from genrec.layers.processes import process_rank
from genrec.layers.shards import over_batches
from genrec.retrieval.ranks import top_items, users_at_once
from genrec.sequences.histories import Examples, Histories, Split

if TYPE_CHECKING:
    from genrec.generation.generated_items import GeneratedItems

CPU = torch.device("cpu")
PROTOCOLS = ("kept", "excluded")

ScoresItems = Callable[[Tensor], Tensor]
Generate = Callable[[Tensor], "GeneratedItems"]


class SearchesItems(Protocol):
    """What generates items: the `generator` of a network that ranks by beams."""

    def generate(self, history: Tensor, n_beams: int, constrained: bool = True) -> "GeneratedItems": ...


@dataclass(frozen=True)
class RankedItems:
    """The best items of each user, and what they are compared with.

    Attributes:
        lists: for each protocol, (n_users, k) int64 item_ids, best first, 0 where a list is short: `kept` lets items
            of the history be recommended again, `excluded` does not.
        targets: (n_users,) int64, the held-out items.
    """

    lists: dict[str, Tensor]
    targets: Tensor


def rank_by_scores(
    score: ScoresItems,
    histories: Histories,
    split: Split,
    max_history: int,
    k: int,
    batch_size: int,
    progress_bar: bool,
    device: torch.device = CPU,
) -> RankedItems:
    """Rank the whole catalogue by a model's scores.

    Args:
        score: histories (batch, length) int64, padded with 0 on the right, to (batch, n_items + 1).
        max_history: how many of a user's last items the model is given.
        batch_size: how many users are scored at once, fewer where the catalogue is large.
        device: where `score` computes.
    """

    def best_of(batch: Examples) -> tuple[Tensor, Tensor]:
        scores = score(_padded(histories, batch.cut(max_history)).to(device))
        seen = _padded(histories, batch).to(device)
        return top_items(scores, k).cpu(), top_items(scores.scatter(1, seen, -torch.inf), k).cpu()

    examples = histories.examples(split)
    batch_size = users_at_once(histories.n_items, batch_size)
    parts = over_batches(best_of, _batches(examples, batch_size, progress_bar))
    lists = {name: _in_order([part[place] for part in parts], examples) for place, name in enumerate(PROTOCOLS)}
    return RankedItems(lists, torch.from_numpy(histories.targets(examples)).long())


def search_users(
    generate: Generate,
    histories: Histories,
    split: Split,
    max_history: int,
    batch_size: int,
    progress_bar: bool,
    device: torch.device = CPU,
) -> "GeneratedItems":
    """What a search finds for each example of a split, in their order, on the CPU.

    Args:
        generate: histories (batch, length) int64 to items (batch, n_beams), best first.
        device: where it computes.
    """

    def found_for(batch: Examples) -> "GeneratedItems":
        found = generate(_padded(histories, batch.cut(max_history)).to(device))
        return found._replace(items=found.items.cpu(), log_probs=found.log_probs.cpu())

    examples = histories.examples(split)
    parts = over_batches(found_for, _batches(examples, batch_size, progress_bar))
    return type(parts[0])(*(_in_order([part[field] for part in parts], examples) for field in range(2)))


def rank_found(items: Tensor, histories: Histories, split: Split, k: int, batch_size: int) -> RankedItems:
    """Rank what was found; items that are not in a user's list have no rank.

    Args:
        items: (n_examples, n) int64, best first, 0 is none; of these the first k that the protocol allows are kept, so
            n should exceed k.
    """
    examples = histories.examples(split)
    lists: dict[str, list[Tensor]] = {protocol: [] for protocol in PROTOCOLS}
    for start in range(0, len(examples), batch_size):
        rows = np.arange(start, min(start + batch_size, len(examples)))
        found, seen = items[rows], _padded(histories, examples.take(rows))
        lists["kept"].append(first_items(found, found != 0, k))
        is_new = ~(found[:, :, None] == seen[:, None, :]).any(2)
        lists["excluded"].append(first_items(found, is_new & (found != 0), k))
    targets = torch.from_numpy(histories.targets(examples)).long()
    return RankedItems({name: torch.cat(parts) for name, parts in lists.items()}, targets)


def first_items(items: Tensor, is_allowed: Tensor, k: int) -> Tensor:
    """The first k allowed items of each row, in their order, filled up with 0.

    Example:
        >>> first_items(torch.tensor([[4, 2, 9]]), torch.tensor([[True, False, True]]), k=3).tolist()
        [[4, 9, 0]]
    """
    order = (~is_allowed).int().argsort(dim=1, stable=True)[:, :k]
    kept = items.gather(1, order).masked_fill(~is_allowed.gather(1, order), 0)
    return torch.nn.functional.pad(kept, (0, k - kept.shape[1]))


def share_of_invalid_beams(
    generate: Generate,
    histories: Histories,
    split: Split,
    max_history: int,
    batch_size: int,
    progress_bar: bool,
    device: torch.device = CPU,
) -> float:
    """How many beams of an unconstrained search on the device are no item at all."""

    def counted(batch: Examples) -> tuple[int, int]:
        items = generate(_padded(histories, batch.cut(max_history)).to(device)).items
        return int((items == 0).sum()), items.numel()

    counts = over_batches(counted, _batches(histories.examples(split), batch_size, progress_bar))
    return sum(invalid for invalid, _ in counts) / sum(total for _, total in counts)


def _by_length(examples: Examples) -> NDArray[np.int64]:
    """Long histories first: what needs most memory fails at once, and little is padded."""
    return np.argsort(-examples.lengths, kind="stable")


def _batches(examples: Examples, batch_size: int, progress_bar: bool) -> Iterator[Examples]:
    order = _by_length(examples)
    starts = range(0, len(order), batch_size)
    shown = progress_bar and process_rank() == 0
    for start in tqdm(starts, desc="users", unit="batch", disable=None if shown else True, leave=False):
        yield examples.take(order[start : start + batch_size])


def _padded(histories: Histories, examples: Examples) -> Tensor:
    return torch.from_numpy(histories.padded(examples)).long()


def _in_order(parts: list[Tensor], examples: Examples) -> Tensor:
    """Bring the batches' users back into the order of their ids."""
    back = torch.from_numpy(np.argsort(_by_length(examples), kind="stable"))
    return torch.cat(parts)[back]
