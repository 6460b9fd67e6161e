"""k-means: what it finds, what it never does, and how it is bounded."""

import itertools

import pytest
import torch

from genrec.codes.tokenizer import kmeans as kmeans_module
from genrec.codes.tokenizer.kmeans import kmeans, nearest, seed_centres, squared_distances


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def inertia(points, centres):
    return torch.cdist(points, centres).square().min(1).values.sum().item()


@pytest.fixture
def blobs():
    """Five clusters of 30 points around far corners, float64, and the corners."""
    corners = torch.tensor([[0.0, 0], [100, 0], [0, 100], [100, 100], [50, 300]], dtype=torch.float64)
    noise = torch.randn(5, 30, 2, generator=seeded(), dtype=torch.float64)
    return (corners[:, None] + noise).flatten(0, 1), corners


def test_well_separated_clusters_are_found(blobs):
    points, _ = blobs
    centres, assigned = kmeans(points, 5, 20, seeded())
    expected = points.view(5, 30, 2).mean(1)
    order = squared_distances(expected, centres).argmin(1)
    torch.testing.assert_close(centres[order], expected)
    assert assigned.tolist() == order.repeat_interleave(30).tolist()


def test_no_step_raises_the_inertia(blobs):
    points = torch.randn(300, 3, generator=seeded(), dtype=torch.float64)
    after = [inertia(points, kmeans(points, 12, steps, seeded())[0]) for steps in range(15)]
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(after))
    assert after[-1] < after[0]


def test_the_assignment_is_that_of_the_returned_centres():
    points = torch.randn(200, 3, generator=seeded(), dtype=torch.float64)
    centres, assigned = kmeans(points, 7, 3, seeded())
    assert torch.equal(assigned, torch.cdist(points, centres).argmin(1))


def test_converged_centres_are_the_means_of_their_points():
    points = torch.randn(200, 3, generator=seeded(), dtype=torch.float64)
    centres, assigned = kmeans(points, 7, 1000, seeded())
    torch.testing.assert_close(centres, torch.stack([points[assigned == i].mean(0) for i in range(7)]))


@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_lloyd_steps_are_bounded(monkeypatch, iterations):
    steps = []
    plain = kmeans_module._means
    monkeypatch.setattr(kmeans_module, "_means", lambda *arguments: steps.append(1) or plain(*arguments))
    kmeans(torch.randn(500, 3, generator=seeded()), 20, iterations, seeded())
    assert len(steps) == iterations


def test_it_stops_when_no_point_changes_its_centre(monkeypatch, blobs):
    steps = []
    plain = kmeans_module._means
    monkeypatch.setattr(kmeans_module, "_means", lambda *arguments: steps.append(1) or plain(*arguments))
    kmeans(blobs[0], 5, 1000, seeded())
    assert len(steps) < 20


def test_the_same_seed_finds_the_same_centres():
    points = torch.randn(300, 4, generator=seeded())
    first, second = kmeans(points, 10, 5, seeded(3)), kmeans(points, 10, 5, seeded(3))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_another_seed_begins_elsewhere():
    points = torch.randn(300, 4, generator=seeded())
    assert not torch.equal(seed_centres(points, 10, seeded(3)), seed_centres(points, 10, seeded(4)))


def test_the_global_randomness_is_not_touched():
    before = torch.get_rng_state()
    kmeans(torch.randn(50, 2, generator=seeded()), 4, 3, seeded())
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_are_points(blobs):
    points, _ = blobs
    seeds = seed_centres(points, 8, seeded())
    assert (seeds[:, None] == points).all(2).any(1).all()


def test_seeds_of_far_clusters_lie_in_different_clusters(blobs):
    points, corners = blobs
    # within a cluster squared distances are below 50, between clusters above 8,000: by chance two seeds share one
    # in about one draw of a hundred
    hits = sum(
        len(squared_distances(seed_centres(points, 5, seeded(seed)), corners).argmin(1).unique()) == 5
        for seed in range(20)
    )
    assert hits >= 18


def test_fewer_distinct_points_than_centres_are_each_served_exactly():
    points = torch.tensor([[0.0, 0], [5, 5], [9, 0]]).repeat(10, 1)
    centres, assigned = kmeans(points, 8, 10, seeded())
    assert centres.shape == (8, 2)
    assert torch.equal(centres[assigned], points)


def test_fewer_points_than_centres_are_each_served_exactly():
    points = torch.tensor([[0.0, 0], [5, 5], [9, 0]])
    centres, assigned = kmeans(points, 8, 10, seeded())
    assert torch.equal(centres[assigned], points)


def test_one_point_is_its_own_centre():
    centres, assigned = kmeans(torch.tensor([[3.0, 4.0]]), 1, 5, seeded())
    assert (centres.tolist(), assigned.tolist()) == ([[3, 4]], [0])


def test_an_empty_cluster_takes_the_farthest_point():
    points = torch.tensor([[0.0], [1.0], [10.0]])
    centres = torch.tensor([[0.0], [50.0]])
    assigned, distances = nearest(points, centres)
    assert kmeans_module._means(points, assigned, distances, centres).tolist() == [[pytest.approx(11 / 3)], [10]]


def test_chunks_find_what_the_whole_finds(monkeypatch):
    points, centres = torch.randn(101, 3, generator=seeded()).double(), torch.randn(7, 3, generator=seeded(1)).double()
    whole = nearest(points, centres)
    for elements in (1, 7 * 10, 7 * 101):
        monkeypatch.setattr(kmeans_module, "CHUNK_ELEMENTS", elements)
        index, distance = nearest(points, centres)
        assert torch.equal(index, whole[0])
        torch.testing.assert_close(distance, whole[1])


@pytest.mark.parametrize("elements", [1, 40, 10_000])
def test_seeds_are_the_same_in_chunks(monkeypatch, elements):
    points = torch.randn(100, 8, generator=seeded())
    whole = seed_centres(points, 6, seeded(1))
    monkeypatch.setattr(kmeans_module, "CACHE_ELEMENTS", elements)
    assert torch.equal(seed_centres(points, 6, seeded(1)), whole)


def test_the_distance_matrix_is_made_of_chunks_only(monkeypatch):
    rows = []
    plain = kmeans_module.squared_distances
    monkeypatch.setattr(kmeans_module, "CHUNK_ELEMENTS", 70)
    monkeypatch.setattr(
        kmeans_module, "squared_distances", lambda points, centres: rows.append(len(points)) or plain(points, centres)
    )
    nearest(torch.zeros(25, 3), torch.zeros(7, 3))
    assert rows == [10, 10, 5]


def test_squared_distances_equal_their_definition():
    points, centres = torch.randn(9, 4, generator=seeded()).double(), torch.randn(5, 4, generator=seeded(1)).double()
    expected = (points[:, None] - centres).square().sum(2)
    torch.testing.assert_close(squared_distances(points, centres), expected)


def test_a_distance_is_never_negative():
    # |p|^2 + |c|^2 - 2 p.c cancels to a small negative number in float32
    points = torch.randn(500, 16, generator=seeded()) * 100
    assert nearest(points, points[:50])[1].min() >= 0


@pytest.mark.parametrize("k", [2, 3, 5, 8, 17, 64])
def test_of_equal_centres_the_lowest_index_is_nearest(k):
    points = torch.randn(33, 6, generator=seeded())
    centres = torch.randn(1, 6, generator=seeded(1)).expand(k, 6)
    assert nearest(points, centres)[0].tolist() == [0] * 33
