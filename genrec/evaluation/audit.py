"""What a search is worth: its list beside exact scoring of the catalogue, and each code's probability, for some users.

An item that is absent from the first k was missed by the search where exact scoring lists it, else by the model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genrec.layers.shards import over_batches
from genrec.retrieval.ranking import first_items
from genrec.retrieval.ranks import ranks_from_scores, ranks_in_lists, top_items
from genrec.sequences.histories import Examples, Histories
from genrec.storage.files import load_arrays, save_arrays

if TYPE_CHECKING:
    from genrec.generation.item_generator import ItemGenerator

USERS_AT_ONCE = 64


@dataclass(frozen=True)
class Audit:
    """Of users of the test, items of their histories excluded.

    Attributes:
        users: (n,) int64, which examples of the test, from 1; under leave-one-out these are the user_ids.
        exact_ranks: (n,) int64, the target's among all items; 1 = first.
        searched_ranks: (n,) int64, in what the search found; one more than n_beams where it is absent.
        target_log_probs: (n, code_length) float32, of each code of the target after those before it.
        first_items: (n,) int64, what exact scoring puts first.
        first_log_probs: (n, code_length) float32, of its codes.
    """

    users: Tensor
    exact_ranks: Tensor
    searched_ranks: Tensor
    target_log_probs: Tensor
    first_items: Tensor
    first_log_probs: Tensor

    def save(self, file: Path) -> None:
        save_arrays({name: value.numpy() for name, value in vars(self).items()}, file)

    @classmethod
    def load(cls, file: Path) -> "Audit":
        """Read what `save` wrote."""
        return cls(**{name: torch.from_numpy(array) for name, array in load_arrays(file).items()})


def sample_of_users(n_users: int, n: int) -> Tensor:
    """n user_ids at even distances, all where there are fewer; they depend on nothing else.

    Example:
        >>> sample_of_users(10, 4).tolist(), sample_of_users(2, 4).tolist()
        ([1, 3, 6, 8], [1, 2])
    """
    n = min(n, n_users)
    return 1 + torch.arange(n) * n_users // max(n, 1)


@torch.no_grad()
def audit(
    generator: "ItemGenerator",
    histories: Histories,
    users: Tensor,
    max_history: int,
    n_beams: int,
    device: torch.device,
) -> Audit:
    """Score the whole catalogue and search it, for some users of the test.

    Args:
        users: (n,) int64, which examples of the test, from 1.
    """
    examples = histories.examples("test").take(users.numpy() - 1)

    def columns_of(batch: Examples) -> tuple[Tensor, ...]:
        history, seen = (
            torch.from_numpy(histories.padded(each)).long().to(device) for each in (batch.cut(max_history), batch)
        )
        target = torch.from_numpy(histories.targets(batch)).long().to(device)
        scores = generator.score_items(history).scatter(1, seen, -torch.inf)
        found = generator.generate(history, n_beams).items
        is_new = ~(found[:, :, None] == seen[:, None, :]).any(2)
        listed = first_items(found, is_new & (found != 0), n_beams)
        best = top_items(scores, 1)[:, 0]
        columns = (
            ranks_from_scores(scores, target),
            ranks_in_lists(listed, target),
            code_log_probs(generator, history, target),
            best,
            code_log_probs(generator, history, best),
        )
        return tuple(column.cpu() for column in columns)

    starts = range(0, len(users), USERS_AT_ONCE)
    batches = (examples.take(np.arange(start, min(start + USERS_AT_ONCE, len(users)))) for start in starts)
    parts = over_batches(columns_of, batches)
    return Audit(users, *(torch.cat(column) for column in zip(*parts, strict=True)))


def code_log_probs(generator: "ItemGenerator", history: Tensor, items: Tensor) -> Tensor:
    """The log-probability of each code of an item after those before it; their sum is the item's.

    Args:
        history: (batch, length) int64, padded with 0 on the right.
        items: (batch,) int64 item_ids; 0 for none, as where a history holds the whole catalogue.

    Returns:
        (batch, code_length) float32; -inf for none.
    """
    # one item behind each whole history; a causal network reads a history of one item the same way
    log_probs = generator(history, items[:, None])[:, 0].float().log_softmax(-1)
    codes = generator.code_table[items].long().clamp_min(0)  # padding has none
    return log_probs.gather(2, codes[..., None])[..., 0].masked_fill(items[:, None] == 0, -torch.inf)
