"""A seeded world with a pattern that a sequence model can learn: from one cluster of items users go on to the next.

Every `RING` clusters stand in a ring. A user begins anywhere. Each further item comes from anywhere with the chance
`STRAYS`, otherwise from the cluster after that of the item before; it is new to the user while its cluster has a new
one, and within a cluster some items are more popular than others. So popularity knows little, co-occurrence knows
the ring, and the last item knows the cluster.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RING = 4
STRAYS = 0.1
SHORTEST, LONGEST = 6, 25
EPOCH = 1_000_000_000
DAY = 86_400


@dataclass(frozen=True)
class World:
    """Interactions and items; users and items are counted from 0.

    Attributes:
        users, items, times, ratings: int64 (n_interactions,), user by user, oldest first; times are unix seconds.
            A rating is 4 or 5 where the item followed the pattern, else 2 or 3.
        clusters: int64 (n_items,), each item's cluster.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.int64]
    ratings: NDArray[np.int64]
    clusters: NDArray[np.int64]


def draw_world(seed: int, *, n_users: int, n_items: int, n_clusters: int) -> World:
    """Draw users' walks.

    Raises:
        ValueError: more clusters than items.
    """
    if n_clusters > n_items:
        raise ValueError(f"n_clusters must not exceed n_items, got n_clusters={n_clusters}, n_items={n_items}")
    rng = np.random.default_rng(seed)
    # Shuffled, so that an item's number tells nothing of its cluster or its popularity.
    order = rng.permutation(n_items)
    members = [order[cluster::n_clusters] for cluster in range(n_clusters)]
    clusters = np.empty(n_items, np.int64)
    clusters[order] = np.arange(n_items) % n_clusters

    following = _following(n_clusters)
    lengths = rng.integers(SHORTEST, LONGEST, size=n_users, endpoint=True)
    walks = [_walk(rng, int(length), members, clusters, following) for length in lengths]
    items = np.concatenate([items for items, _ in walks])
    followed = np.concatenate([followed for _, followed in walks])
    starts = EPOCH + rng.integers(0, 1000 * DAY, size=n_users)
    # Steps of at least a second: no two of a user's times are equal.
    times = np.concatenate(
        [
            start + np.cumsum(rng.integers(1, 5 * DAY, size=length))
            for start, length in zip(starts, lengths, strict=True)
        ]
    )
    ratings = np.where(followed, 4, 2) + rng.integers(0, 2, size=len(items))
    return World(np.repeat(np.arange(n_users), lengths), items, times, ratings, clusters)


def _walk(
    rng: np.random.Generator,
    length: int,
    members: list[NDArray[np.int64]],
    clusters: NDArray[np.int64],
    following: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """One user's items, and whether each came by the pattern."""
    new = np.ones(len(clusters))
    items, followed = np.empty(length, np.int64), np.zeros(length, bool)
    for step in range(length):
        followed[step] = step > 0 and rng.random() >= STRAYS
        cluster = following[clusters[items[step - 1]]] if followed[step] else rng.integers(len(members))
        candidates = members[cluster]
        weights = 1 / np.sqrt(1 + np.arange(len(candidates)))
        # Only when a user has all of a cluster does an item return.
        fresh = weights * new[candidates] if new[candidates].any() else weights
        items[step] = rng.choice(candidates, p=fresh / fresh.sum())
        new[items[step]] = 0
    return items, followed


def _following(n_clusters: int) -> NDArray[np.int64]:
    """int64 (n_clusters,): the cluster after each; the last ring may be shorter.

    Example:
        >>> _following(6).tolist()
        [1, 2, 3, 0, 5, 4]
    """
    clusters = np.arange(n_clusters)
    first = clusters // RING * RING
    size = np.minimum(RING, n_clusters - first)
    return first + (clusters - first + 1) % size
