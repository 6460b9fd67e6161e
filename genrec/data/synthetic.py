"""A seeded world with a pattern that a sequence model can learn: from one cluster of items users go on to the next.

Every `RING` clusters stand in a ring. A user begins anywhere. Each further item comes from anywhere with the chance
`STRAYS`, otherwise from the cluster after that of the item before; it is new to the user while its cluster has a new
one, and within a cluster some items are more popular than others. So popularity knows little, co-occurrence knows
the ring, and the last item knows the cluster.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

RING = 4
STRAYS = 0.1
SHORTEST, LONGEST = 6, 25
EPOCH = 1_000_000_000
DAY = 86_400
USERS_AT_ONCE = 1 << 14


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
    parts = list(world_in_parts(seed, n_users=n_users, n_items=n_items, n_clusters=n_clusters))
    names = [field.name for field in fields(World) if field.name != "clusters"]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return World(**joined, clusters=parts[0].clusters)


def world_in_parts(seed: int, *, n_users: int, n_items: int, n_clusters: int) -> Iterator[World]:
    """As `draw_world`, some users after others, in memory that does not grow with their number.

    Raises:
        ValueError: more clusters than items.
    """
    if n_clusters > n_items:
        raise ValueError(f"n_clusters must not exceed n_items, got n_clusters={n_clusters}, n_items={n_items}")
    rng = np.random.default_rng(seed)
    # Shuffled, so that an item's number tells nothing of its cluster or its popularity.
    order = rng.permutation(n_items)
    clusters = np.empty(n_items, np.int64)
    clusters[order] = np.arange(n_items) % n_clusters
    for first in range(0, n_users, USERS_AT_ONCE):
        size = min(USERS_AT_ONCE, n_users - first)
        lengths = rng.integers(SHORTEST, LONGEST, size=size, endpoint=True)
        items, followed = _walks(rng, size, order, clusters, n_clusters)
        # Steps of at least a second: no two of a user's times are equal.
        starts = EPOCH + rng.integers(0, 1000 * DAY, size=(size, 1))
        times = starts + np.cumsum(rng.integers(1, 5 * DAY, size=items.shape), axis=1)
        ratings = np.where(followed, 4, 2) + rng.integers(0, 2, size=items.shape)
        there = np.arange(LONGEST) < lengths[:, None]
        users = np.repeat(np.arange(first, first + size), lengths)
        yield World(users, items[there], times[there], ratings[there], clusters)


def _walks(
    rng: np.random.Generator, n_users: int, order: NDArray[np.int64], clusters: NDArray[np.int64], n_clusters: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Users' items, and whether each came by the pattern; (n_users, LONGEST) each, of which a user takes the first.

    Args:
        order: (n_items,), item number `cluster + n_clusters * place` is that of a place in a cluster, 0 the most
            popular one.
        clusters: (n_items,), each item's.
    """
    following, sizes = _following(n_clusters), np.bincount(clusters, minlength=n_clusters)
    weights = np.cumsum(1 / np.sqrt(1 + np.arange(sizes.max())))
    items, followed = np.full((n_users, LONGEST), -1), np.zeros((n_users, LONGEST), bool)
    cluster = np.zeros(n_users, np.int64)
    for step in range(LONGEST):
        followed[:, step] = (rng.random(n_users) >= STRAYS) & (step > 0)
        cluster = np.where(followed[:, step], following[cluster], rng.integers(0, n_clusters, n_users))
        taken = items[:, :step]
        # Only when a user has all of a cluster does an item return.
        has_new = (clusters[taken] == cluster[:, None]).sum(axis=1) < sizes[cluster]
        left = np.arange(n_users)
        while len(left):
            of = cluster[left]
            place = np.searchsorted(weights, rng.random(len(left)) * weights[sizes[of] - 1], side="right")
            items[left, step] = order[of + n_clusters * np.minimum(place, sizes[of] - 1)]
            left = left[(taken[left] == items[left, step, None]).any(axis=1) & has_new[left]]
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
