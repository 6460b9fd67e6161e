"""Where a model finds the target and where it does not: recall within groups of users, and how models' hits overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.sequences.histories import Histories

Z = 1.959963984540054  # the normal distribution's 97.5 percentile


@dataclass(frozen=True)
class Groups:
    """A partition of the users of the test, or of their targets where a user has several.

    Attributes:
        labels: of each group, in order.
        of_users: (n_targets,) int64, each one's group; -1 belongs to none.
    """

    labels: tuple[str, ...]
    of_users: NDArray[np.int64]


def quantile_groups(values: NDArray[np.int64], n_groups: int = 5) -> Groups:
    """Groups of about as many users each, by a number of theirs; users of one number stand in one group.

    Args:
        values: (n_users,) int.

    Example:
        >>> groups = quantile_groups(np.array([1, 1, 1, 7, 9, 40]), n_groups=3)
        >>> groups.labels, groups.of_users.tolist()
        (('1', '7', '9 to 40'), [0, 0, 0, 1, 2, 2])
    """
    places = np.arange(1, n_groups + 1) / n_groups
    ends = np.unique(np.quantile(values, places, method="inverted_cdf")) if len(values) else values
    of_users = np.searchsorted(ends, values)
    first = [int(values[of_users == group].min()) for group in range(len(ends))]
    labels = [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in zip(first, ends, strict=True)]
    return Groups(tuple(labels), of_users)


def by_item_frequency(histories: Histories) -> Groups:
    """Users of the test by how many training interactions their target has."""
    counts = histories.train_counts()
    return quantile_groups(counts[histories.targets(histories.examples("test"))])


def by_history_length(histories: Histories) -> Groups:
    """Users of the test by how many interactions stand before their target."""
    return quantile_groups(histories.examples("test").lengths)


def by_transition(histories: Histories) -> Groups:
    """Whether somebody went from the user's last item straight to the target in training: memory, or generalisation.

    Users without a history belong to no group.
    """
    examples, size = histories.examples("test"), np.int64(histories.n_items + 1)
    last = histories.items[np.maximum(examples.ends - 1, 0)]
    wanted = last * size + histories.targets(examples)
    is_known = np.zeros(len(examples), bool)
    for part in histories.train_blocks():
        is_known |= np.isin(wanted, _steps(part, size))
    return Groups(("seen in training", "never seen"), np.where(examples.lengths > 0, np.where(is_known, 0, 1), -1))


def _steps(part: Histories, size: np.int64) -> NDArray[np.int64]:
    """From which item to which users went straight, as one number each."""
    same_user = np.ones(max(len(part.items) - 1, 0), bool)
    borders = part.offsets[1:-1]  # an interaction there is another user's
    same_user[borders[(borders > 0) & (borders < len(part.items))] - 1] = False
    steps: NDArray[np.int64] = (part.items[:-1] * size + part.items[1:])[same_user]
    return steps


def by_new_user(histories: Histories) -> Groups:
    """Users of the test by whether anything of theirs was learned from."""
    known = histories.train_lengths > 0
    of_users = known[histories.users_of(histories.examples("test")) - 1]
    return Groups(("user of the training", "new user"), np.where(of_users, 0, 1))


def by_new_item(histories: Histories) -> Groups:
    """Users of the test by whether anybody took their target in training."""
    counts = histories.train_counts()
    targets = histories.targets(histories.examples("test"))
    return Groups(("item of the training", "new item"), np.where(counts[targets] > 0, 0, 1))


def by_item_age(histories: Histories, times: NDArray[np.int64], n_groups: int = 5) -> Groups:
    """Users of the test by when their target was first taken in training, among all items that were.

    Args:
        times: (n_interactions,) int, of each interaction in the order of `histories.items`.
    """
    never = np.iinfo(np.int64).max
    first = np.full(histories.n_items + 1, never)
    for part in replace(histories, items=np.arange(len(times), dtype=np.int32), tied=None).train_blocks():
        np.minimum.at(first, histories.items[part.items], times[part.items])
    known = np.sort(first[first != never])
    targets = first[histories.targets(histories.examples("test"))]
    share = np.searchsorted(known, targets) / max(len(known), 1)
    of_users = np.where(targets == never, n_groups, np.minimum((share * n_groups).astype(np.int64), n_groups - 1))
    middle = [f"{place} of {n_groups}" for place in range(2, n_groups)]
    return Groups(("oldest", *middle, "newest", "not in training"), of_users)


def sliced_recall(
    ranks: NDArray[np.int32], groups: Groups, k: int, user_ids: NDArray[np.int64] | None = None
) -> list[dict[str, Any]]:
    """Recall at k of each group that has users, with their number and Wilson's 95 % interval (1927).

    Wilson's, not a bootstrap: it stays within 0..1 and says something of a group without any hit. All targets of a
    user count as one draw, as if they were found or missed together: the interval is rather too wide than too narrow.

    Args:
        ranks: (n_targets,) int, 1 = first.
        user_ids: (n_targets,), whose each target is; None where no user has two.

    Returns:
        For each group `group`, `users`, `recall`, `low`, `high`; also `targets` where there are more of them.
    """
    found = []
    for place, label in enumerate(groups.labels):
        inside = groups.of_users == place
        n_targets = int(inside.sum())
        if n_targets:
            n = n_targets if user_ids is None else len(np.unique(user_ids[inside]))
            recall = float((ranks[inside] <= k).mean())
            low, high = wilson_interval(recall, n)
            more = {} if n == n_targets else {"targets": n_targets}
            found.append({"group": label, "users": n, **more, "recall": recall, "low": low, "high": high})
    return found


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """The ends of the 95 % interval of a share of n draws.

    Example:
        >>> [round(end, 4) for end in wilson_interval(0.5, 10)]
        [0.2366, 0.7634]
    """
    centre, spread = share + Z**2 / (2 * n), Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    scale = 1 + Z**2 / n
    # of 0 or all hits the end is the share itself, which rounding passes
    return max(min(float((centre - spread) / scale), share), 0.0), min(
        max(float((centre + spread) / scale), share), 1.0
    )


def overlap(ranks: Mapping[str, NDArray[np.int32]], k: int) -> dict[str, dict[str, float]]:
    """Of each model's hits within the first k, the share that another model hits too; 0 where it has none.

    Args:
        ranks: model to (n_users,), the ranks of the same targets.

    Example:
        >>> overlap({"a": np.array([1, 9, 2]), "b": np.array([1, 9, 9])}, k=3)
        {'a': {'a': 1.0, 'b': 0.5}, 'b': {'a': 1.0, 'b': 1.0}}
    """
    hits = np.stack([of_users <= k for of_users in ranks.values()]).astype(np.int64)
    shares = (hits @ hits.T) / np.maximum(hits.sum(1, keepdims=True), 1)
    names: Sequence[str] = list(ranks)
    return {a: {b: float(shares[i, j]) for j, b in enumerate(names)} for i, a in enumerate(names)}
