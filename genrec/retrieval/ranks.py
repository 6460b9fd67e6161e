"""From scores or lists to the rank of the one relevant item, with ties in a stated order: the lower item_id first."""

from collections.abc import Callable

import torch
from torch import Tensor

from genrec.layers.finite import check_ordered

SCORES_AT_ONCE = 2**25  # 128 MiB in float32
STRETCH = 256  # items of a large catalogue of which first the best alone is looked at


def users_at_once(n_items: int, most: int) -> int:
    """How many users' scores of all items are held at once, `most` where the catalogue lets them.

    Example:
        >>> users_at_once(100_000, 256), users_at_once(1_000_000, 256)
        (256, 33)
    """
    return max(min(most, SCORES_AT_ONCE // (n_items + 1)), 1)


def ranks_from_scores(scores: Tensor, targets: Tensor) -> Tensor:
    """The rank of each user's target among all items.

    Args:
        scores: (n_users, n_items + 1) float, column = item_id; column 0 (padding) never counts.
        targets: (n_users,) int, item_ids.

    Returns:
        (n_users,) int64, 1 = first.

    Raises:
        UserError: an item's score is NaN.

    Example:
        >>> ranks_from_scores(torch.tensor([[9.0, 0.5, 0.7, 0.5]]), torch.tensor([3])).tolist()
        [3]
    """
    check_ordered(scores[:, 1:])
    target_scores = scores.gather(1, targets.long()[:, None])
    above = scores > target_scores
    tied_before = (scores == target_scores) & (torch.arange(scores.shape[1], device=scores.device) < targets[:, None])
    return 1 + (above | tied_before)[:, 1:].sum(1)


def ranks_in_lists(lists: Tensor, targets: Tensor) -> Tensor:
    """The rank of each user's target in a list of items, one more than the list's length where it is absent.

    Args:
        lists: (n_users, k) int, best first; 0 fills up short lists.
        targets: (n_users,) int, item_ids.

    Example:
        >>> ranks_in_lists(torch.tensor([[4, 2, 0], [4, 2, 0]]), torch.tensor([2, 7])).tolist()
        [2, 4]
    """
    hits = lists == targets[:, None]
    return torch.where(hits.any(1), hits.int().argmax(1) + 1, lists.shape[1] + 1)


def discounted_gain(ranks: Tensor, k: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """NDCG@k of users who have one relevant item each: 1 / log2(1 + rank) within the first k, else 0.

    Where a user has several, the sum of theirs is the DCG.

    Example:
        >>> discounted_gain(torch.tensor([1, 3, 11]), k=10).tolist()
        [1.0, 0.5, 0.0]
    """
    return torch.where(ranks <= k, 1 / torch.log2(1 + ranks.to(dtype)), 0.0)


def ranking_figures(
    score: Callable[[Tensor], Tensor], history: Tensor, target: Tensor, n_items: int
) -> dict[str, Tensor]:
    """What a validation step logs of a full ranking: means over its users, some of whom are scored at once.

    Args:
        score: (n, length) item_ids to (n, n_items + 1) float, column = item_id.
        history: (n_users, length) item_ids, 0 = padding.
        target: (n_users,) item_ids.

    Returns:
        `ndcg_at_10` and `recall_at_10` with the history kept, and the same as `..._excluded`.
    """
    ranks: dict[str, list[Tensor]] = {"": [], "_excluded": []}
    n_users = users_at_once(n_items, len(target))
    for seen, targets in zip(history.split(n_users), target.split(n_users), strict=True):
        scores = score(seen)
        ranks[""].append(ranks_from_scores(scores, targets))
        ranks["_excluded"].append(ranks_from_scores(scores.scatter(1, seen, -torch.inf), targets))
    figures = {}
    for suffix, parts in ranks.items():
        of_users = torch.cat(parts)
        figures[f"ndcg_at_10{suffix}"] = discounted_gain(of_users, 10).mean()
        figures[f"recall_at_10{suffix}"] = (of_users <= 10).float().mean()
    return figures


def found_figures(found: Tensor, history: Tensor, target: Tensor) -> dict[str, Tensor]:
    """As `ranking_figures`, of a search's lists; a target that is in no list is not found, however short the list is.

    Args:
        found: (n_users, n) item_ids, best first, 0 is none; more than ten, since those of the history give way.

    Example:
        >>> found, history = torch.tensor([[4, 2, 9]]), torch.tensor([[4, 0]])
        >>> figures = found_figures(found, history, torch.tensor([2]))
        >>> round(float(figures["ndcg_at_10"]), 4), float(figures["ndcg_at_10_excluded"])
        (0.6309, 1.0)
    """
    figures = {}
    is_new = ~(found[:, :, None] == history[:, None, :]).any(2)
    for suffix, allowed in (("", torch.ones_like(is_new)), ("_excluded", is_new)):
        hits = (found == target[:, None]) & allowed
        ranks = torch.where(hits.any(1), (allowed.cumsum(1) * hits).sum(1), found.shape[1] + 11)
        figures[f"ndcg_at_10{suffix}"] = discounted_gain(ranks, 10).mean()
        figures[f"recall_at_10{suffix}"] = (ranks <= 10).float().mean()
    return figures


def top_items(scores: Tensor, k: int) -> Tensor:
    """The k best items of each user, best first; the lower item_id wins a tie, also at the list's end.

    Args:
        scores: (n_users, n_items + 1) float; items of score -inf and column 0 are never listed.

    Returns:
        (n_users, k) int64; 0 where a user has fewer than k items left.

    Raises:
        UserError: an item's score is NaN.

    Example:
        >>> top_items(torch.tensor([[9.0, 0.5, 0.7, 0.5]]), k=2).tolist()
        [[2, 1]]
    """
    n_stretches = (scores.shape[1] - 1) // STRETCH
    if n_stretches > 2 * k:  # else all are looked at soon enough
        return _top_of_stretches(scores, k, n_stretches)
    scores = scores.clone()
    scores[:, 0] = -torch.inf
    check_ordered(scores)
    width = min(k, scores.shape[1])
    last = scores.topk(width, dim=1).values[:, -1:]
    above, tied = scores > last, scores == last
    # topk itself promises no order of ties: of the items at its edge keep those with the lowest ids
    room = width - above.sum(1, keepdim=True)
    kept = (above | (tied & (tied.cumsum(1) <= room))).nonzero()[:, 1].view(len(scores), width)
    kept_scores, order = scores.gather(1, kept).sort(dim=1, descending=True, stable=True)
    items = kept.gather(1, order).masked_fill(kept_scores == -torch.inf, 0)
    return torch.nn.functional.pad(items, (0, k - width))


def _top_of_stretches(scores: Tensor, k: int, n_stretches: int) -> Tensor:
    """As `top_items`, from the k stretches of items whose best ones are the best, the lower of equals.

    Each of these holds an item as good as the worst of their best, so that no item of another stretch can be among
    the k, nor stand before their ties.
    """
    stop = 1 + n_stretches * STRETCH
    best = scores[:, 1:stop].unflatten(1, (n_stretches, STRETCH)).amax(2)
    if bool(best.isnan().any()) or bool(scores[:, stop:].isnan().any()):
        check_ordered(scores[:, 1:])
    chosen = best.sort(dim=1, descending=True, stable=True).indices[:, :k].sort(dim=1).values
    inside = torch.arange(1, STRETCH + 1, device=scores.device)
    items = (chosen[:, :, None] * STRETCH + inside).flatten(1)
    # those behind the last whole stretch have the highest ids
    rest = torch.arange(stop, scores.shape[1], device=scores.device).expand(len(scores), -1)
    items = torch.nn.functional.pad(torch.cat([items, rest], dim=1), (1, 0))
    return items.gather(1, top_items(scores.gather(1, items), k))
