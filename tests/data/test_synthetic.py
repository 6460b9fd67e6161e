"""The synthetic world: seeded, mostly without repeats, and learnable from the last item."""

import numpy as np
import pytest

from genrec.data.synthetic import LONGEST, RING, SHORTEST, STRAYS, draw_world

SIZE = {"n_users": 200, "n_items": 120, "n_clusters": 8}


@pytest.fixture(scope="module")
def world():
    return draw_world(1, **SIZE)


def test_the_same_seed_draws_the_same_world(world):
    again, other = draw_world(1, **SIZE), draw_world(2, **SIZE)
    assert again.items.tolist() == world.items.tolist()
    assert again.times.tolist() == world.times.tolist()
    assert other.items.tolist() != world.items.tolist()


def test_lengths_vary_within_their_bounds(world):
    lengths = np.bincount(world.users, minlength=200)
    assert SHORTEST <= lengths.min() < lengths.max() <= LONGEST


def test_users_come_one_after_another_and_their_times_rise(world):
    same_user = world.users[1:] == world.users[:-1]
    assert (np.diff(world.users) >= 0).all()
    assert (np.diff(world.times)[same_user] > 0).all()


def test_every_cluster_has_its_share_of_the_items(world):
    assert np.bincount(world.clusters).tolist() == [15] * 8


def test_no_user_takes_an_item_twice_while_there_are_others(world):
    assert len(set(zip(world.users, world.items, strict=True))) == len(world.items)


def test_the_next_cluster_follows_but_for_strays(world):
    clusters = world.clusters[world.items]
    same_user = world.users[1:] == world.users[:-1]
    after = clusters // RING * RING + (clusters + 1) % RING
    share = (clusters[1:] == after[:-1])[same_user].mean()
    # a stray lands in the next cluster once in eight times; 4 standard deviations of some 2,900 steps
    expected = 1 - STRAYS + STRAYS / 8
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / same_user.sum())


def test_the_last_items_cluster_tells_more_than_popularity(world):
    """Recall at 10: the 10 most popular of all items, against the 10 most popular of the cluster that follows."""
    counts = np.bincount(world.items, minlength=120)
    ends = np.flatnonzero(np.diff(world.users, append=-1))
    targets, last = world.items[ends], world.clusters[world.items[ends - 1]]
    after = last // RING * RING + (last + 1) % RING
    popular = (counts[:, None] < counts).sum(1) < 10
    in_cluster = (world.clusters == after[:, None]) * (1 + counts)
    better = (in_cluster > in_cluster[np.arange(len(ends)), targets][:, None]).sum(1) < 10
    followed = world.clusters[targets] == after
    assert popular[targets].mean() < 0.35
    assert (better & followed).mean() > 0.5


def test_ratings_tell_what_followed_from_what_strayed(world):
    assert set(world.ratings.tolist()) == {2, 3, 4, 5}
    first = np.flatnonzero(np.diff(world.users, prepend=-1))
    assert set(world.ratings[first].tolist()) == {2, 3}


def test_a_small_world_returns_to_its_items():
    world = draw_world(1, n_users=5, n_items=10, n_clusters=10)
    assert len(world.items) >= 5 * SHORTEST
    assert set(world.clusters.tolist()) == set(range(10))


def test_a_cluster_without_items_is_refused():
    with pytest.raises(ValueError, match="n_clusters must not exceed n_items, got n_clusters=11, n_items=10"):
        draw_world(1, n_users=5, n_items=10, n_clusters=11)
