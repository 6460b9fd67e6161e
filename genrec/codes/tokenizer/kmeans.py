"""k-means on tensors: k-means++ seeding, a bounded number of Lloyd steps, distances in chunks of bounded memory."""

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**24  # of a distance matrix: 64 MiB in float32
CACHE_ELEMENTS = 2**16  # of points: what is made of them stays in a core's cache


def nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centre of each point, the lowest index among equals, and its squared distance.

    Args:
        points: (n, dim) float.
        centres: (k, dim) float.

    Returns:
        (n,) int64 indices and (n,) float squared distances.
    """
    indices, distances = [], []
    for chunk in points.split(max(CHUNK_ELEMENTS // len(centres), 1)):
        distance, index = squared_distances(chunk, centres).min(1)
        indices.append(index)
        distances.append(distance)
    return torch.cat(indices), torch.cat(distances).clamp_min(0)


def squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """|p|^2 + |c|^2 - 2 p.c for each pair, in the precision of the centres; (n, k)."""
    # a difference of large numbers: under autocast, in bfloat16, other centres would be nearest
    with torch.autocast(points.device.type, enabled=False):
        points = points.to(centres.dtype)
        return torch.addmm(points.square().sum(1, keepdim=True) + centres.square().sum(1), points, centres.T, alpha=-2)


def seed_centres(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii 2007): each new centre is drawn by its squared distance from the others.

    Returns:
        (k, dim); points repeat where there are fewer than k distinct ones.
    """
    centres = points.new_empty(k, points.shape[1])
    first = torch.randint(len(points), (1,), generator=generator)
    centres[0] = points[first]
    closest = _squared_distances_from(centres[0], points)
    for i in range(1, k):
        # cumulative sums in float64: in float32 the tail of a million small weights would be lost;
        # on the CPU: CUDA has no deterministic algorithm for them
        cumulative = closest.cpu().double().cumsum(0)
        drawn = torch.rand(1, generator=generator, dtype=torch.float64) * cumulative[-1]
        centres[i] = points[torch.searchsorted(cumulative, drawn).clamp_max(len(points) - 1)]
        closest = torch.minimum(closest, _squared_distances_from(centres[i], points))
    return centres


def _squared_distances_from(centre: Tensor, points: Tensor) -> Tensor:
    parts = points.split(max(CACHE_ELEMENTS // len(centre), 1))
    return torch.cat([(part - centre).square().sum(1) for part in parts])


def kmeans(points: Tensor, k: int, iterations: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from k-means++ seeds; stops early when no point changes its centre.

    An empty cluster takes the point that lies farthest from its centre.

    Args:
        points: (n, dim) float.
        iterations: the most Lloyd steps.

    Returns:
        centres (k, dim) and the index of each point's centre (n,) int64.
    """
    centres = seed_centres(points, k, generator)
    assigned, distances = nearest(points, centres)
    for _ in range(iterations):
        centres = _means(points, assigned, distances, centres)
        previous = assigned
        assigned, distances = nearest(points, centres)
        if torch.equal(assigned, previous):
            break
    return centres, assigned


def _means(points: Tensor, assigned: Tensor, distances: Tensor, centres: Tensor) -> Tensor:
    counts = torch.bincount(assigned, minlength=len(centres))
    means = torch.zeros_like(centres).index_add_(0, assigned, points) / counts.clamp_min(1)[:, None]
    empty = (counts == 0).nonzero()[:, 0]
    if len(empty):
        farthest = distances.topk(min(len(empty), len(points))).indices
        means[empty[: len(farthest)]] = points[farthest]
    return means
