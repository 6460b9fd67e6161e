"""RQ-VAE (Lee et al. 2022; TIGER, section 3.1): an item embedding becomes one code a level, and back."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.codes.tokenizer.quantizers import ResidualQuantizer
from genrec.codes.tokenizer.vqvae_loss import VQVAELoss

ROWS = 2**15  # at once where a whole catalogue is encoded: the hidden layers of a million items would take gigabytes


class LinearStack(nn.Sequential):
    """Linear layers with ReLU between them; none at all (the identity) when there is no hidden layer."""

    def __init__(self, dims: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for input_dim, output_dim in zip(dims, dims[1:], strict=False):
            linear = nn.Linear(input_dim, output_dim)
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.ReLU()]
        super().__init__(*layers[:-1])


class Encoder(LinearStack):
    """(batch, input_dim) to (batch, latent_dim); the last layer is linear."""

    def __init__(self, input_dim: int, hidden_dim: int | Sequence[int], latent_dim: int) -> None:
        super().__init__([input_dim, *_as_sizes(hidden_dim), latent_dim])


class Decoder(LinearStack):
    """(batch, latent_dim) to (batch, output_dim); hidden layers from the latent's side, the last layer linear."""

    def __init__(self, latent_dim: int, hidden_dim: int | Sequence[int], output_dim: int) -> None:
        super().__init__([latent_dim, *_as_sizes(hidden_dim), output_dim])


def _as_sizes(hidden_dim: int | Sequence[int]) -> list[int]:
    return [hidden_dim] if isinstance(hidden_dim, int) else list(hidden_dim)


class RqVaeNetwork(nn.Module):
    """Encoder, residual quantizer, decoder.

    Args:
        hidden_dim: one size, or the encoder's sizes from the input's side; the decoder mirrors them. `None` leaves
            encoder and decoder out: residual k-means of the embeddings themselves.
        num_embeddings: codes a level.
        commitment_cost: beta, applied once, by the quantizer.
        quantization_weight: alpha, the weight of the quantizer's losses beside the reconstruction.
        quantizer: straight_through, sinkhorn, rotation or ema; see `ResidualQuantizer`.
    """

    def __init__(
        self,
        input_dim: int = 768,
        hidden_dim: int | Sequence[int] | None = 512,
        latent_dim: int = 256,
        num_embeddings: int = 1024,
        commitment_cost: float = 0.25,
        *,
        num_levels: int = 1,
        quantization_weight: float = 1.0,
        quantizer: str = "straight_through",
    ) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.vqvae_loss = VQVAELoss(quantization_weight, quantization_weight)
        self.encoder: nn.Module = nn.Identity()
        self.decoder: nn.Module = nn.Identity()
        if hidden_dim is None:
            latent_dim = input_dim
        else:
            self.encoder = Encoder(input_dim, hidden_dim, latent_dim)
            self.decoder = Decoder(latent_dim, _as_sizes(hidden_dim)[::-1], input_dim)
        self.quantizer = ResidualQuantizer(num_levels, num_embeddings, latent_dim, commitment_cost, quantizer)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode, quantize, decode.

        Args:
            features: (batch, input_dim).

        Returns:
            reconstructed (batch, input_dim), the weighted commitment loss (), the embedding loss (), and the
            semantic IDs (batch,) int64, or (batch, num_levels) with more than one level.
        """
        quantized = self.quantizer(self.encode(features))
        reconstructed = self.decoder(quantized.vectors)
        codes = _without_single_level(quantized.codes)
        return reconstructed, quantized.commitment_loss, quantized.embedding_loss, codes

    def encode(self, features: Tensor) -> Tensor:
        """(batch, input_dim) to latents (batch, latent_dim)."""
        if features.shape[-1] != self.input_dim:
            raise ValueError(
                f"features must have input_dim={self.input_dim} columns, got shape {tuple(features.shape)}; "
                "build RqVae with their width"
            )
        latents: Tensor = self.encoder(features)
        return latents

    def generate_semantic_ids(self, features: Tensor) -> Tensor:
        """(batch,) int64, or (batch, num_levels) with more than one level."""
        return _without_single_level(self.semantic_codes(features))

    @torch.no_grad()
    def semantic_codes(self, features: Tensor) -> Tensor:
        """(batch, num_levels) int64, also for one level."""
        return torch.cat([self.quantizer.codes(self.encode(part)) for part in features.split(ROWS)])

    @torch.no_grad()
    def reconstruction_error(self, features: Tensor) -> float:
        """The mean squared error over all elements of (n, input_dim)."""
        parts = features.split(ROWS)
        return sum(float(F.mse_loss(self(part)[0], part)) * len(part) for part in parts) / len(features)

    @torch.no_grad()
    def initialize_codebooks(self, features: Tensor, iterations: int, seed: int) -> None:
        """k-means over all items, level by level, before the first step; without it most codes stay unused.

        Args:
            features: (n_items, input_dim).
        """
        latents = torch.cat([self.encode(part) for part in features.split(ROWS)])
        self.quantizer.initialize(latents, iterations, torch.Generator().manual_seed(seed))

    def losses(self, features: Tensor, latents: Tensor) -> dict[str, Tensor]:
        """`loss` and its terms: reconstruction + alpha * (commitment + embedding), each a mean over all elements."""
        quantized = self.quantizer(latents)
        losses = self.vqvae_loss(
            features, self.decoder(quantized.vectors), quantized.commitment_loss, quantized.embedding_loss
        )
        return {
            "loss": losses["total_loss"],
            "recon_loss": losses["reconstruction_loss"],
            "commitment_loss": losses["commitment_loss"],
            "embedding_loss": losses["embedding_loss"],
        }


def _without_single_level(codes: Tensor) -> Tensor:
    """(batch, 1) to (batch,), as page 002's single codebook prints them."""
    return codes[:, 0] if codes.shape[1] == 1 else codes
