"""In-batch negatives: the items of a batch's other rows, without the row's own item, corrected for popularity."""

import torch
from torch import Tensor


def in_batch_negatives(
    scores: Tensor,
    n_negatives: int | None = None,
    *,
    hard: bool = False,
    item_ids: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Which other rows' items each row takes as negatives.

    Args:
        scores: (batch, batch), row i's user with row j's item.
        n_negatives: how many; None takes all.
        hard: the best scored ones, instead of random ones.
        item_ids: (batch,); rows that hold the same item are no negatives of each other.

    Returns:
        (batch, n) int64, n at most batch - 1; -1 where a row has fewer.
    """
    size = len(scores)
    own = torch.arange(size, device=scores.device) if item_ids is None else item_ids
    is_allowed = own[:, None] != own
    keys = scores.detach().float() if hard else torch.rand(scores.shape, generator=generator).to(scores.device)
    n = min(size - 1 if n_negatives is None else n_negatives, size - 1)
    best = keys.masked_fill(~is_allowed, -torch.inf).topk(n, dim=1)
    return best.indices.masked_fill(best.values == -torch.inf, -1)


def all_in_batch(scores: Tensor, item_ids: Tensor, own: Tensor) -> Tensor:
    """The scores with -inf where another row holds the row's own item; the positives stay.

    Args:
        scores: (n, batch), row i's user with row j's item.
        item_ids: (batch,).
        own: (n,) int64, which rows of the batch those of `scores` are; all of them in a process that trains alone.
    """
    is_repeated = (item_ids[own, None] == item_ids).scatter(1, own[:, None], value=False)
    return scores.masked_fill(is_repeated, -torch.inf)


def in_batch_logits(scores: Tensor, negatives: Tensor) -> Tensor:
    """(batch, 1 + n): the row's own score, then those of its negatives, -inf where there is none.

    Args:
        scores: (batch, batch).
        negatives: (batch, n), as `in_batch_negatives` gives them.
    """
    taken = scores.gather(1, negatives.clamp_min(0)).masked_fill(negatives < 0, -torch.inf)
    return torch.cat([scores.diagonal()[:, None], taken], dim=1)


def log_sampling_probability(counts: Tensor) -> Tensor:
    """log Q of each item, for the logQ correction: in-batch negatives come as often as items are popular.

    Subtracted from the logits (Yi et al. 2019, equation 3) it makes scores estimate log P(item | user), else
    popularity itself counts against an item.

    Args:
        counts: (n_items + 1,) training interactions; an item without any counts as one.

    Returns:
        (n_items + 1,) float32.
    """
    floored = counts.float().clamp_min(1)
    return (floored / counts.sum().clamp_min(1)).log()
