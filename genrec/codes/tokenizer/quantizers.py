"""Quantizers: a vector becomes a code of one codebook, or a row of codes, each of what the level before left over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.choices import Quantizer, check_choice
from genrec.codes.tokenizer.kmeans import kmeans, nearest, squared_distances
from genrec.codes.tokenizer.sinkhorn import log_transport_plan


def _same(rows: Tensor) -> Tensor:
    return rows


@dataclass(frozen=True)
class Sharing:
    """How a quantizer that is given a share of a batch, in one of several processes, knows all of it.

    Attributes:
        gathered: rows of the share to those of the whole batch.
        own: rows of the whole batch to those of the share.
    """

    gathered: Callable[[Tensor], Tensor] = _same
    own: Callable[[Tensor], Tensor] = _same


class VectorQuantizer(nn.Module):
    """The nearest vector of one codebook, with a straight-through gradient (van den Oord et al. 2017).

    The commitment loss comes back multiplied by its weight, so that callers add it plainly.

    Attributes:
        sharing: for those that in training look at a batch as a whole; by default what they are given is all.

    Example:
        >>> quantizer = VectorQuantizer(num_embeddings=2, embedding_dim=1, commitment_cost=0.5)
        >>> quantizer.replace(torch.arange(2), torch.tensor([[0.0], [10.0]]))
        >>> [result.tolist() for result in quantizer(torch.tensor([[3.0], [9.0]]))]
        [[[0.0], [10.0]], 2.5, 5.0, [0, 1]]
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, commitment_cost: float = 0.25) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.commitment_cost = commitment_cost
        self.sharing = Sharing()
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
        inputs = inputs.to(self.codebook.dtype)  # half precision, where there is one, ends here
        vectors, commitment_loss, embedding_loss, codes = self.quantize(inputs)
        return self.carry_gradient(inputs, vectors), commitment_loss, embedding_loss, codes

    def quantize(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `forward`, but the chosen vectors carry no gradient."""
        codes = self.choose(inputs.detach())
        vectors = F.embedding(codes, self.codebook)
        commitment_loss = self.commitment_cost * F.mse_loss(inputs, vectors.detach())
        return vectors.detach(), commitment_loss, F.mse_loss(vectors, inputs.detach()), codes

    def choose(self, inputs: Tensor) -> Tensor:
        """The codes (batch,) of inputs (batch, embedding_dim) in a step: the nearest, the lowest among equals."""
        return nearest(inputs, self.codebook.detach())[0]

    def carry_gradient(self, inputs: Tensor, vectors: Tensor) -> Tensor:
        """Exactly the values of `vectors`, with a gradient for `inputs`: here the identity."""
        return vectors + (inputs - inputs.detach())

    def distances(self, inputs: Tensor) -> Tensor:
        """Squared distances to all codes, (batch, num_embeddings); differentiable in both."""
        return squared_distances(inputs, self.codebook)

    @torch.no_grad()
    def replace(self, codes: Tensor, vectors: Tensor) -> None:
        """Give some codes (n,) new vectors (n, embedding_dim)."""
        self.codebook[codes] = vectors


class SinkhornQuantizer(VectorQuantizer):
    """In training the batch is spread evenly over the codes (Zheng et al. 2024, LC-Rec); in eval mode: the nearest.

    An item's code in a step depends on the items beside it, so the codes of items are those of eval mode.
    """

    def choose(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return super().choose(inputs)
        distances = squared_distances(self.sharing.gathered(inputs), self.codebook.detach())
        return self.sharing.own(log_transport_plan(distances).argmax(1))


class RotationQuantizer(VectorQuantizer):
    """The gradient turns with the vector: the rotation trick (Fifty et al. 2024, arXiv 2410.06424, section 4.2).

    Where a straight-through gradient ignores which way its code lies, this one keeps its angle to the quantized vector.
    """

    def carry_gradient(self, inputs: Tensor, vectors: Tensor) -> Tensor:
        rotated = rotate(inputs, vectors)
        return vectors + (rotated - rotated.detach())


class EMAQuantizer(VectorQuantizer):
    """Codes follow the moving average of the inputs that chose them (van den Oord et al. 2017, appendix A).

    No gradient moves the codebook and there is no embedding loss. Eval mode leaves everything as it is.
    """

    decay = 0.99
    smoothing = 1e-5  # of the counts, so that a code which nobody chooses divides by more than nothing

    def __init__(self, num_embeddings: int, embedding_dim: int, commitment_cost: float = 0.25) -> None:
        super().__init__(num_embeddings, embedding_dim, commitment_cost)
        start = self.codebook.data
        del self.codebook
        self.counts: Tensor
        self.sums: Tensor
        self.register_buffer("codebook", start)
        self.register_buffer("counts", torch.ones(num_embeddings))
        self.register_buffer("sums", start.clone())

    def quantize(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        vectors, commitment_loss, embedding_loss, codes = super().quantize(inputs)
        if self.training:
            self.follow(self.sharing.gathered(inputs.detach()), self.sharing.gathered(codes))
        return vectors, commitment_loss, torch.zeros_like(embedding_loss), codes

    @torch.no_grad()
    def follow(self, inputs: Tensor, codes: Tensor) -> None:
        """One step of the moving averages towards inputs (batch, embedding_dim) and the codes that they chose."""
        counts = torch.bincount(codes, minlength=self.num_embeddings).to(self.counts)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, inputs.to(self.sums))
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        total = self.counts.sum()
        smooth = (self.counts + self.smoothing) * total / (total + self.num_embeddings * self.smoothing)
        self.codebook.copy_(self.sums / smooth[:, None])

    @torch.no_grad()
    def replace(self, codes: Tensor, vectors: Tensor) -> None:
        super().replace(codes, vectors)
        self.counts[codes] = 1.0
        self.sums[codes] = vectors.to(self.sums)


def rotate(inputs: Tensor, targets: Tensor) -> Tensor:
    """Turn and stretch each input onto its target by a map that carries the gradient as a constant.

    The map is lambda R: R reflects twice, first at the bisector of the two directions, then at the target's; lambda is
    the ratio of their lengths. The gradient keeps its angle: what points along the target comes back along the input.

    Args:
        inputs, targets: (batch, dim).

    Returns:
        (batch, dim), the targets up to rounding.
    """
    lengths, target_lengths = (x.detach().norm(dim=1, keepdim=True).clamp_min(1e-6) for x in (inputs, targets))
    source, target = inputs.detach() / lengths, targets.detach() / target_lengths
    bisector = F.normalize(source + target, dim=1, eps=1e-6)
    reflected = inputs - 2 * (inputs * bisector).sum(1, keepdim=True) * bisector
    return (reflected + 2 * (inputs * source).sum(1, keepdim=True) * target) * (target_lengths / lengths)


QUANTIZERS: dict[str, type[VectorQuantizer]] = {
    "straight_through": VectorQuantizer,
    "sinkhorn": SinkhornQuantizer,
    "rotation": RotationQuantizer,
    "ema": EMAQuantizer,
}


class Quantized(NamedTuple):
    """What `ResidualQuantizer` returns.

    Attributes:
        vectors: (batch, dim), the sum of the chosen codes, with a gradient for the input.
        commitment_loss, embedding_loss: (), means over the levels.
        codes: (batch, num_levels) int64.
    """

    vectors: Tensor
    commitment_loss: Tensor
    embedding_loss: Tensor
    codes: Tensor


class ResidualQuantizer(nn.Module):
    """One quantizer a level; each quantizes what the levels above left over (Zeghidour et al. 2021).

    The residual that is handed on carries no gradient, so only level 0 of a loss reaches the input; the sum of the
    chosen vectors carries its gradient back once, for all levels together.

    Args:
        quantizer: a name of `QUANTIZERS`. With `sinkhorn` the last level alone is balanced, as in LC-Rec: those above
            follow groups of items, which differ in size.
    """

    def __init__(
        self,
        num_levels: int,
        num_embeddings: int,
        embedding_dim: int,
        commitment_cost: float = 0.25,
        quantizer: str = "straight_through",
    ) -> None:
        super().__init__()
        check_choice("quantizer", quantizer, Quantizer)
        kinds = [QUANTIZERS[quantizer]] * num_levels
        if quantizer == "sinkhorn":
            kinds[:-1] = [VectorQuantizer] * (num_levels - 1)
        levels = (kind(num_embeddings, embedding_dim, commitment_cost) for kind in kinds)
        self.levels: Sequence[VectorQuantizer] = nn.ModuleList(levels)  # type: ignore[assignment]

    def share_batches(self, sharing: Sharing) -> None:
        """Be given a share of each batch from now on; see `Sharing`."""
        for level in self.levels:
            level.sharing = sharing

    @property
    def num_embeddings(self) -> int:
        return self.levels[0].num_embeddings

    @property
    def codebooks(self) -> Tensor:
        """(num_levels, num_embeddings, dim), a copy."""
        return torch.stack([level.codebook.detach() for level in self.levels])

    def forward(self, inputs: Tensor) -> Quantized:
        """Quantize inputs (batch, dim)."""
        inputs = self._in_full(inputs)
        residual, total = inputs, torch.zeros_like(inputs)
        commitments, embeddings, codes = [], [], []
        for level in self.levels:
            vectors, commitment, embedding, code = level.quantize(residual)
            total = total + vectors
            residual = (residual - vectors).detach()
            commitments.append(commitment)
            embeddings.append(embedding)
            codes.append(code)
        return Quantized(
            self.levels[0].carry_gradient(inputs, total),
            torch.stack(commitments).mean(),
            torch.stack(embeddings).mean(),
            torch.stack(codes, dim=1),
        )

    def _in_full(self, inputs: Tensor) -> Tensor:
        """Half precision, where there is one, ends here: codes are chosen and moved in that of the codebooks."""
        return inputs.to(self.levels[0].codebook.dtype)

    def distances(self, inputs: Tensor) -> Tensor:
        """Squared distances of each level's residual to its codes, (batch, num_levels, num_embeddings)."""
        rows, residual = [], self._in_full(inputs)
        for level in self.levels:
            distances = level.distances(residual)
            rows.append(distances)
            residual = (residual - F.embedding(distances.argmin(1), level.codebook)).detach()
        return torch.stack(rows, dim=1)

    @torch.no_grad()
    def codes(self, inputs: Tensor) -> Tensor:
        """(batch, num_levels) int64."""
        columns, residual = [], self._in_full(inputs)
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
        residual = self._in_full(inputs)
        for level in self.levels:
            centres, assigned = kmeans(residual, level.num_embeddings, iterations, generator)
            level.replace(torch.arange(level.num_embeddings, device=centres.device), centres)
            residual = residual - centres[assigned]

    @torch.no_grad()
    def restart_dead_codes(self, inputs: Tensor) -> int:
        """Move each code that no input uses onto the input's residual that is served worst; how many moved.

        Args:
            inputs: (n, dim), all items' latents.
        """
        moved, residual = 0, self._in_full(inputs)
        for level in self.levels:
            assigned, distances = nearest(residual, level.codebook)
            dead = (torch.bincount(assigned, minlength=level.num_embeddings) == 0).nonzero()[:, 0][: len(inputs)]
            if len(dead):
                level.replace(dead, residual[distances.topk(len(dead)).indices])
                assigned, _ = nearest(residual, level.codebook)
                moved += len(dead)
            residual = residual - level.codebook[assigned]
        return moved
