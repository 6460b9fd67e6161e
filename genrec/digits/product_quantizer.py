"""Product quantization after a learned rotation (OPQ: Ge et al. 2013), whose digits are codes of equal standing.

Letters: n points, m digits, k codes a digit, s dimensions a digit; dim = m * s.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec.codes.tokenizer.kmeans import CHUNK_ELEMENTS, seed_centres


@dataclass(frozen=True)
class ProductQuantizer:
    """A rotation that spreads the points' variance over the digits, and a codebook for each digit's dimensions.

    Attributes:
        mean: (dim,) of the points it was fitted to.
        rotation: (dim, dim) orthogonal; a centred point times it has its first digit's dimensions first.
        codebooks: (m, k, s).
    """

    mean: Tensor
    rotation: Tensor
    codebooks: Tensor

    def codes(self, points: Tensor) -> Tensor:
        """The nearest code of each digit, the lowest among equals.

        Args:
            points: (n, dim).

        Returns:
            (n, m) int64.
        """
        return _nearest(self._split(points), self.codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """The point that codes (n, m) stand for, (n, dim)."""
        digits = torch.arange(len(self.codebooks), device=codes.device)
        return self.codebooks[digits, codes].flatten(1) @ self.rotation.T + self.mean

    def _split(self, points: Tensor) -> Tensor:
        """(n, dim) to (m, n, s)."""
        return _by_digit((points - self.mean) @ self.rotation, len(self.codebooks))


def fit_product_quantizer(
    points: Tensor, num_digits: int, code_num: int, iterations: int, generator: torch.Generator
) -> ProductQuantizer:
    """Alternate between codes for a rotation and the best rotation for these codes.

    It begins with the principal components, dealt out so that the digits' variances have nearly equal products
    (section 3.2.2), and with k-means++ seeds.

    Args:
        points: (n, dim) float.
        iterations: how often the codebooks and the rotation are fitted anew.

    Raises:
        ValueError: the digits do not divide the dimensions.
    """
    if points.shape[1] % num_digits:
        raise ValueError(f"num_digits must divide the dimensions, got {num_digits} and {points.shape[1]}")
    points = points.double()  # hundreds of sums over all points: in float32 their order would show
    mean = points.mean(0)
    points = points - mean
    rotation = _balanced_components(points, num_digits)
    parts = _by_digit(points @ rotation, num_digits)
    codebooks = torch.stack([seed_centres(part, code_num, generator) for part in parts])
    for _ in range(iterations):
        codes = _nearest(parts, codebooks)
        codebooks = _means(parts, codes, codebooks)
        decoded = codebooks[torch.arange(num_digits), codes].flatten(1)
        left, _, right = torch.linalg.svd(points.T @ decoded)  # orthogonal Procrustes
        rotation = left @ right
        parts = _by_digit(points @ rotation, num_digits)
    codebooks = _means(parts, _nearest(parts, codebooks), codebooks)
    return ProductQuantizer(mean.float(), rotation.float(), codebooks.float())


def _by_digit(rotated: Tensor, num_digits: int) -> Tensor:
    return rotated.unflatten(1, (num_digits, -1)).transpose(0, 1).contiguous()


def _balanced_components(points: Tensor, num_digits: int) -> Tensor:
    """(dim, dim), the principal components as columns; each goes to the digit that has the least variance so far."""
    variances, components = torch.linalg.eigh(points.T @ points / len(points))
    logs = variances.clamp_min(1e-12).log().tolist()
    size = points.shape[1] // num_digits
    dealt: list[list[int]] = [[] for _ in range(num_digits)]
    products = [0.0] * num_digits
    for component in reversed(range(len(logs))):
        digit = min((d for d in range(num_digits) if len(dealt[d]) < size), key=lambda d: (len(dealt[d]), products[d]))
        dealt[digit].append(component)
        products[digit] += logs[component]
    return components[:, [component for digit in dealt for component in digit]]


def _nearest(parts: Tensor, codebooks: Tensor) -> Tensor:
    """Parts (m, n, s) to codes (n, m)."""
    lengths = codebooks.square().sum(2)[:, None]  # (m, 1, k)
    chunk = max(CHUNK_ELEMENTS // (lengths.numel()), 1)
    codes = [
        torch.baddbmm(lengths, part, codebooks.transpose(1, 2), alpha=-2).argmin(2) for part in parts.split(chunk, 1)
    ]
    return torch.cat(codes, dim=1).T


def _means(parts: Tensor, codes: Tensor, codebooks: Tensor) -> Tensor:
    """The mean of each code's points; a code without points stays where it is."""
    m, k, s = codebooks.shape
    rows = (codes.T + torch.arange(m, device=codes.device)[:, None] * k).flatten()
    counts = torch.bincount(rows, minlength=m * k)[:, None]
    sums = codebooks.new_zeros(m * k, s).index_add_(0, rows, parts.flatten(0, 1))
    return torch.where(counts > 0, sums / counts.clamp_min(1), codebooks.flatten(0, 1)).view(m, k, s)
