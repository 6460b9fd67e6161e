"""Quantizers: a vector becomes a code of one codebook, or a row of codes, each of what the level before left over."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.modules.kmeans import kmeans, nearest, squared_distances


class VectorQuantizer(nn.Module):
    """The nearest vector of one codebook, with a straight-through gradient (van den Oord et al. 2017).

    The commitment loss comes back multiplied by its weight, so that callers add it plainly.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, commitment_cost: float = 0.25) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.commitment_cost = commitment_cost
        self.codebook = nn.Parameter(torch.empty(num_embeddings, embedding_dim))
        nn.init.uniform_(self.codebook, -1 / num_embeddings, 1 / num_embeddings)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Quantize.

        Args:
            inputs: (batch, embedding_dim).

        Returns:
            quantized (batch, embedding_dim), the weighted commitment loss (), the embedding loss (), both means over
            all elements, and the codes (batch,) int64.
        """
        codes, _ = nearest(inputs.detach(), self.codebook.detach())
        vectors = F.embedding(codes, self.codebook)
        commitment_loss = self.commitment_cost * F.mse_loss(inputs, vectors.detach())
        embedding_loss = F.mse_loss(vectors, inputs.detach())
        return inputs + (vectors - inputs).detach(), commitment_loss, embedding_loss, codes

    def distances(self, inputs: Tensor) -> Tensor:
        """Squared distances to all codes, (batch, num_embeddings); differentiable in both."""
        return squared_distances(inputs, self.codebook)


class Quantized(NamedTuple):
    """What `ResidualQuantizer` returns.

    Attributes:
        vectors: (batch, dim), the sum of the chosen codes with a straight-through gradient.
        commitment_loss, embedding_loss: (), means over the levels.
        codes: (batch, num_levels) int64.
    """

    vectors: Tensor
    commitment_loss: Tensor
    embedding_loss: Tensor
    codes: Tensor


class ResidualQuantizer(nn.Module):
    """One `VectorQuantizer` a level; each quantizes what the levels above left over (Zeghidour et al. 2021).

    The residual that is handed on carries no gradient, so only level 0 of a loss reaches the input; the sum of the
    chosen vectors passes its gradient straight through, once.
    """

    def __init__(self, num_levels: int, num_embeddings: int, embedding_dim: int, commitment_cost: float = 0.25) -> None:
        super().__init__()
        levels = (VectorQuantizer(num_embeddings, embedding_dim, commitment_cost) for _ in range(num_levels))
        self.levels: Sequence[VectorQuantizer] = nn.ModuleList(levels)  # type: ignore[assignment]

    @property
    def num_embeddings(self) -> int:
        return int(self.codebooks.shape[1])

    @property
    def codebooks(self) -> Tensor:
        """(num_levels, num_embeddings, dim), a copy."""
        return torch.stack([level.codebook.detach() for level in self.levels])

    def forward(self, inputs: Tensor) -> Quantized:
        residual, total = inputs, torch.zeros_like(inputs)
        commitments, embeddings, codes = [], [], []
        for level in self.levels:
            vectors, commitment, embedding, code = level(residual)
            total = total + vectors
            residual = (residual - vectors).detach()
            commitments.append(commitment)
            embeddings.append(embedding)
            codes.append(code)
        return Quantized(
            total, torch.stack(commitments).mean(), torch.stack(embeddings).mean(), torch.stack(codes, dim=1)
        )

    def distances(self, inputs: Tensor) -> Tensor:
        """Squared distances of each level's residual to its codes, (batch, num_levels, num_embeddings)."""
        rows, residual = [], inputs
        for level in self.levels:
            distances = level.distances(residual)
            rows.append(distances)
            residual = (residual - F.embedding(distances.argmin(1), level.codebook)).detach()
        return torch.stack(rows, dim=1)

    @torch.no_grad()
    def codes(self, inputs: Tensor) -> Tensor:
        """(batch, num_levels) int64."""
        columns, residual = [], inputs
        for level in self.levels:
            codes, _ = nearest(residual, level.codebook)
            columns.append(codes)
            residual = residual - level.codebook[codes]
        return torch.stack(columns, dim=1)

    @torch.no_grad()
    def initialize(self, inputs: Tensor, iterations: int, generator: torch.Generator) -> None:
        """Fit each codebook by k-means to the residuals of the levels above it.

        Args:
            inputs: (n, dim), all items' latents.
        """
        residual = inputs
        for level in self.levels:
            centres, assigned = kmeans(residual, level.num_embeddings, iterations, generator)
            level.codebook.copy_(centres)
            residual = residual - centres[assigned]

    @torch.no_grad()
    def restart_dead_codes(self, inputs: Tensor) -> int:
        """Move each code that no input uses onto the input's residual that is served worst; how many moved.

        Args:
            inputs: (n, dim), all items' latents.
        """
        moved, residual = 0, inputs
        for level in self.levels:
            assigned, distances = nearest(residual, level.codebook)
            dead = (torch.bincount(assigned, minlength=level.num_embeddings) == 0).nonzero()[:, 0][: len(inputs)]
            if len(dead):
                level.codebook[dead] = residual[distances.topk(len(dead)).indices]
                assigned, _ = nearest(residual, level.codebook)
                moved += len(dead)
            residual = residual - level.codebook[assigned]
        return moved
