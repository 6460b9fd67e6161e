"""RQ-VAE (Lee et al. 2022; TIGER, section 3.1): an item embedding becomes one code a level, and back."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.code_table import collision_rate
from genrec.modules.code_health import refuse_collapse
from genrec.modules.quantizers import ResidualQuantizer


class MLP(nn.Sequential):
    """Linear layers with ReLU between them; none at all (the identity) when there is no hidden layer."""

    def __init__(self, dims: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for input_dim, output_dim in zip(dims, dims[1:], strict=False):
            linear = nn.Linear(input_dim, output_dim)
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.ReLU()]
        super().__init__(*layers[:-1])


class Encoder(MLP):
    """(batch, input_dim) to (batch, latent_dim); the last layer is linear."""

    def __init__(self, input_dim: int, hidden_dim: int | Sequence[int], latent_dim: int) -> None:
        super().__init__([input_dim, *_as_sizes(hidden_dim), latent_dim])


class Decoder(MLP):
    """(batch, latent_dim) to (batch, output_dim); hidden layers from the latent's side, the last layer linear."""

    def __init__(self, latent_dim: int, hidden_dim: int | Sequence[int], output_dim: int) -> None:
        super().__init__([latent_dim, *_as_sizes(hidden_dim), output_dim])


def _as_sizes(hidden_dim: int | Sequence[int]) -> list[int]:
    return [hidden_dim] if isinstance(hidden_dim, int) else list(hidden_dim)


class RqVae(pl.LightningModule):
    """Encoder, residual quantizer, decoder.

    Args:
        hidden_dim: one size, or the encoder's sizes from the input's side; the decoder mirrors them. `None` leaves
            encoder and decoder out: residual k-means of the embeddings themselves.
        commitment_cost: beta, applied once, by the quantizer.
        quantization_weight: alpha, the weight of the quantizer's losses beside the reconstruction.
    """

    def __init__(
        self,
        input_dim: int = 768,
        hidden_dim: int | Sequence[int] | None = 512,
        latent_dim: int = 256,
        num_embeddings: int = 1024,
        commitment_cost: float = 0.25,
        learning_rate: float = 1e-3,
        *,
        num_levels: int = 1,
        weight_decay: float = 0.0,
        quantization_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.quantization_weight = quantization_weight
        self.encoder: nn.Module = nn.Identity()
        self.decoder: nn.Module = nn.Identity()
        if hidden_dim is None:
            latent_dim = input_dim
        else:
            self.encoder = Encoder(input_dim, hidden_dim, latent_dim)
            self.decoder = Decoder(latent_dim, _as_sizes(hidden_dim)[::-1], input_dim)
        self.quantizer = ResidualQuantizer(num_levels, num_embeddings, latent_dim, commitment_cost)
        self._epoch_latents: list[Tensor] = []
        self._validated: list[tuple[Tensor, Tensor]] = []

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
        latents: Tensor = self.encoder(features)
        return latents

    def generate_semantic_ids(self, features: Tensor) -> Tensor:
        """(batch,) int64, or (batch, num_levels) with more than one level."""
        return _without_single_level(self.semantic_codes(features))

    @torch.no_grad()
    def semantic_codes(self, features: Tensor) -> Tensor:
        """(batch, num_levels) int64, also for one level."""
        codes: Tensor = self.quantizer.codes(self.encode(features))
        return codes

    @torch.no_grad()
    def reconstruction_error(self, features: Tensor) -> float:
        """The mean squared error over all elements of (n, input_dim)."""
        return float(F.mse_loss(self(features)[0], features))

    @torch.no_grad()
    def initialize_codebooks(self, features: Tensor, iterations: int, seed: int) -> None:
        """k-means over all items, level by level, before the first step; without it most codes stay unused.

        Args:
            features: (n_items, input_dim).
        """
        self.quantizer.initialize(self.encode(features), iterations, torch.Generator().manual_seed(seed))

    def losses(self, features: Tensor, latents: Tensor) -> dict[str, Tensor]:
        """`loss` and its terms: reconstruction + alpha * (commitment + embedding), each a mean over all elements."""
        quantized = self.quantizer(latents)
        recon_loss = F.mse_loss(self.decoder(quantized.vectors), features)
        quantization_loss = quantized.commitment_loss + quantized.embedding_loss
        return {
            "loss": recon_loss + self.quantization_weight * quantization_loss,
            "recon_loss": recon_loss,
            "commitment_loss": quantized.commitment_loss,
            "embedding_loss": quantized.embedding_loss,
        }

    def training_step(self, batch: dict[str, Tensor] | Tensor, batch_idx: int) -> Tensor:
        features = _features(batch)
        latents = self.encode(features)
        losses = self.losses(features, latents)
        self._epoch_latents.append(latents.detach())
        for name, value in losses.items():
            self.log(f"train_{name}", value, on_step=False, on_epoch=True, batch_size=len(features))
        return losses["loss"]

    def on_train_epoch_end(self) -> None:
        """Codes that no item of the epoch used start again where items are served worst."""
        restarted = self.quantizer.restart_dead_codes(torch.cat(self._epoch_latents))
        self._epoch_latents.clear()
        self.log("restarted_codes", float(restarted))

    def validation_step(self, batch: dict[str, Tensor] | Tensor, batch_idx: int) -> None:
        features = _features(batch)
        latents = self.encode(features)
        losses = self.losses(features, latents)
        self._validated.append((self.quantizer.codes(latents), losses["recon_loss"].expand(len(features))))
        self.log("val_loss", losses["loss"], batch_size=len(features))
        self.log("val_recon_loss", losses["recon_loss"], batch_size=len(features))

    def on_validation_epoch_end(self) -> None:
        """Log how items collide, and one number that orders by collisions first, by reconstruction second."""
        codes = torch.cat([codes for codes, _ in self._validated])
        reconstruction = float(torch.cat([loss for _, loss in self._validated]).mean())
        self._validated.clear()
        refuse_collapse(codes)
        rate = collision_rate(codes)
        self.log("val_collision_rate", rate)
        # items are counted in whole numbers, so a fraction below 1 only decides between equal counts
        self.log("val_selection", round(rate * len(codes)) + reconstruction / (1 + reconstruction))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        if not self.trainer.fit_loop.epoch_loop.val_loop._data_source.is_defined():
            return optimizer
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=5)
        frequency = self.trainer.check_val_every_n_epoch or 1
        plateau = {"scheduler": scheduler, "monitor": "val_loss", "frequency": frequency}
        return {"optimizer": optimizer, "lr_scheduler": plateau}


def _features(batch: dict[str, Tensor] | Tensor) -> Tensor:
    return batch["features"] if isinstance(batch, dict) else batch


def _without_single_level(codes: Tensor) -> Tensor:
    """(batch, 1) to (batch,), as page 002's single codebook prints them."""
    return codes[:, 0] if codes.shape[1] == 1 else codes
