"""What a model proposes to each user, and the same items in another order."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.layers.finite import check_ordered
from genrec.layers.shards import over_batches
from genrec.retrieval.candidates import Candidates
from genrec.retrieval.ranking import CPU, ScoresItems, SearchesItems
from genrec.retrieval.ranks import top_items, users_at_once
from genrec.sequences.histories import Histories, Split

# histories (batch, length) int64, padded with 0 on the right, to items and log-probabilities, (batch, n) each
Search = Callable[[Tensor], tuple[Tensor, Tensor]]


def retrieve(
    search: Search, histories: Histories, split: Split, max_history: int, batch_size: int, device: torch.device = CPU
) -> Candidates:
    """What a search finds for each user.

    Args:
        max_history: how many of a user's last items it is given.
        batch_size: how many users are searched for at once, fewer where the catalogue is large.
        device: where it computes; what it finds lies on the CPU.
    """
    examples = histories.examples(split)
    batch_size = users_at_once(histories.n_items, batch_size)

    def found_for(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        batch = examples.take(rows).cut(max_history)
        items, log_probs = search(torch.from_numpy(histories.padded(batch)).long().to(device))
        return items.cpu(), log_probs.cpu()

    rows = np.arange(len(examples))
    found = over_batches(found_for, (rows[start : start + batch_size] for start in range(0, len(rows), batch_size)))
    items = torch.cat([each for each, _ in found])
    log_probs = torch.cat([each for _, each in found]).float()
    return Candidates(items, log_probs.masked_fill(items == 0, -torch.inf))


def search_by_generation(generator: SearchesItems, n: int) -> Search:
    """The items of a constrained search with n beams."""
    return lambda history: generator.generate(history, n)


def search_by_scores(score: ScoresItems, n: int) -> Search:
    """The n best items of a model that scores all; log-probabilities are those of a softmax over the catalogue."""

    def search(history: Tensor) -> tuple[Tensor, Tensor]:
        scores = score(history)
        items = top_items(scores, n)
        return items, scores.log_softmax(1).gather(1, items)

    return search


def reorder(candidates: Candidates, users: Tensor, places: Tensor, scores: Tensor) -> Tensor:
    """The candidates in a ranker's order: the same items, best first; of equal scores the generator's order.

    Args:
        users, places: (n_rows,) where in the candidates' table a row stands.
        scores: (n_rows,).

    Returns:
        (n_users, n) int64, 0 where a list is short.

    Raises:
        UserError: a score is NaN.
    """
    check_ordered(scores)
    table = torch.full(candidates.items.shape, -torch.inf)
    table[users, places] = scores.float()
    return candidates.items.gather(1, table.argsort(dim=1, descending=True, stable=True))
