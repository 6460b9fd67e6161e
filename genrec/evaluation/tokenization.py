"""What semantic IDs keep of items: reconstruction by level, and how alike items are that share a prefix."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.codes.tokenizer.rqvae import ROWS, RqVaeNetwork


@torch.no_grad()
def lost_by_level(network: RqVaeNetwork, features: Tensor) -> list[float]:
    """The share of the embeddings' variance that is lost when only the first 1, 2, ... levels are decoded.

    1 is what the mean embedding alone would lose; more than that is worse than no code at all.

    Args:
        features: (n_items, input_dim).
    """
    codebooks = network.quantizer.codebooks
    lost = torch.zeros(len(codebooks), dtype=torch.float64)
    for part in features.split(ROWS):
        codes = network.semantic_codes(part)
        vectors = codebooks[torch.arange(len(codebooks)), codes].cumsum(1)  # (batch, levels, dim)
        lost += (network.decoder(vectors) - part[:, None]).double().square().sum((0, 2))
    variance = (features - features.mean(0)).double().square().sum()
    return (lost / variance.clamp_min(torch.finfo(torch.float64).tiny)).tolist()


def likeness_by_prefix(embeddings: NDArray[np.float32], table: NDArray[np.int32]) -> list[dict[str, Any]]:
    """The mean cosine of the embeddings of two items whose first codes are the same.

    Args:
        embeddings: (n_items, dim).
        table: (n_items, code_length) int, their semantic IDs.

    Returns:
        For 0 codes (any two items) up to one before the last: `codes`, `groups` of two or more items, `pairs`,
        `cosine`; as far as there are pairs.

    Example:
        >>> likeness_by_prefix(np.float32([[1, 0], [1, 0], [0, 1]]), np.int32([[0, 0, 0], [0, 0, 1], [1, 0, 0]]))[1]
        {'codes': 1, 'groups': 1, 'pairs': 1, 'cosine': 1.0}
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = (embeddings / np.where(lengths > 0, lengths, 1)).astype(np.float64)
    own = np.square(directions).sum(1)
    found = []
    for depth in range(table.shape[1]):
        groups = (
            np.unique(table[:, :depth], axis=0, return_inverse=True)[1].ravel() if depth else np.zeros(len(table), int)
        )
        sizes = np.bincount(groups)
        sums = np.zeros((len(sizes), directions.shape[1]))
        np.add.at(sums, groups, directions)
        pairs = int((sizes * (sizes - 1) // 2).sum())
        if pairs:
            # of a group the square of the sum holds each pair twice, and each item with itself
            cosine = float((np.square(sums).sum() - own.sum()) / 2 / pairs)
            found.append({"codes": depth, "groups": int((sizes > 1).sum()), "pairs": pairs, "cosine": cosine})
    return found
