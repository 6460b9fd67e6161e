"""RQ-VAE as it is trained, and what its page measures of a trained one."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from genrec.codes.code_table import collision_rate
from genrec.codes.tokenizer.code_health import code_health, refuse_collapse
from genrec.codes.tokenizer.quantizers import Sharing, VectorQuantizer
from genrec.codes.tokenizer.rqvae import Decoder, Encoder, RqVaeNetwork
from genrec.layers.processes import gathered, rows_of_all, share_of, weight_of
from genrec.storage.checkpoint import load_folder, save_folder
from genrec.training.lightning import pl
from genrec.training.modes import evaluating

__all__ = [
    "Decoder",
    "Encoder",
    "RqVae",
    "VectorQuantizer",
    "batch_inference",
    "evaluate_quantization",
    "evaluate_reconstruction",
]

Features = dict[str, Tensor] | Tensor


class RqVae(RqVaeNetwork, pl.LightningModule):
    """`RqVaeNetwork` with its optimizer.

    Args:
        weight_decay: AdamW's; with 0 it is Adam.

    Example:
        >>> model = RqVae(input_dim=6, hidden_dim=8, latent_dim=4, num_embeddings=16)
        >>> model.generate_semantic_ids(torch.zeros(10, 6)).shape
        torch.Size([10])
        >>> RqVae(input_dim=6, hidden_dim=8, latent_dim=4, num_levels=3).generate_semantic_ids(torch.zeros(10, 6)).shape
        torch.Size([10, 3])
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
        quantizer: str = "straight_through",
    ) -> None:
        super().__init__(
            input_dim, hidden_dim, latent_dim, num_embeddings, commitment_cost,
            num_levels=num_levels, quantization_weight=quantization_weight, quantizer=quantizer,
        )  # fmt: skip
        self.save_hyperparameters()
        self.quantizer.share_batches(Sharing(gathered, share_of))
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self._epoch_latents: list[Tensor] = []
        self._validated: list[tuple[Tensor, Tensor]] = []

    def save_pretrained(self, path: str | Path) -> None:
        """Write a folder, `~` for a home, of config.json and model.safetensors, which `from_pretrained` reads."""
        save_folder(self, Path(path).expanduser())

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Self:
        """The model of a folder that `save_pretrained` wrote, on the CPU, in eval mode.

        Raises:
            UserError: no such folder, or one of another model.
        """
        return load_folder(cls, Path(path).expanduser())

    def training_step(self, batch: Features, batch_idx: int) -> Tensor:
        """The total loss of `features` (batch, input_dim), given as a tensor or under that name."""
        features = _features(batch)
        latents = self.encode(features)
        losses = self.losses(features, latents)
        if batch_idx == 0:
            self._epoch_latents.clear()  # of an epoch that was broken off
        total = rows_of_all(len(features))
        self._epoch_latents.append(gathered(latents.detach(), total))
        losses = {name: value * weight_of(len(features), total) for name, value in losses.items()}
        for name, value in losses.items():
            self.log(f"train_{name}", value, on_step=False, on_epoch=True, batch_size=total, sync_dist=True)
        return losses["loss"]

    def on_train_epoch_end(self) -> None:
        """Codes that no item of the epoch used start again where items are served worst."""
        restarted = self.quantizer.restart_dead_codes(torch.cat(self._epoch_latents))
        self._epoch_latents.clear()
        self.log("restarted_codes", float(restarted))

    def validation_step(self, batch: Features, batch_idx: int) -> Tensor:
        features = _features(batch)
        latents = self.encode(features)
        losses = self.losses(features, latents)
        reconstruction = losses["recon_loss"].expand(len(features))
        total = rows_of_all(len(features))
        self._validated.append((gathered(self.quantizer.codes(latents), total), gathered(reconstruction, total)))
        for name in ("loss", "recon_loss"):
            value = losses[name] * weight_of(len(features), total)
            self.log(f"val_{name}", value, batch_size=total, sync_dist=True)
        return losses["loss"]

    def on_validation_epoch_end(self) -> None:
        """Log how items collide, and one number that orders by collisions first, by reconstruction second."""
        codes = torch.cat([codes for codes, _ in self._validated])
        reconstruction = float(torch.cat([loss for _, loss in self._validated]).mean())
        self._validated.clear()
        if len(codes) >= self.quantizer.num_embeddings:  # a few items may well be alike
            refuse_collapse(codes)
        rate = collision_rate(codes)
        self.log("val_collision_rate", rate)
        # items are counted in whole numbers, so a fraction below 1 only decides between equal counts
        self.log("val_selection", round(rate * len(codes)) + reconstruction / (1 + reconstruction))

    def test_step(self, batch: Features, batch_idx: int) -> Tensor:
        features = _features(batch)
        losses = self.losses(features, self.encode(features))
        self.log("test_loss", losses["loss"], batch_size=len(features))
        self.log("test_recon_loss", losses["recon_loss"], batch_size=len(features))
        return losses["loss"]

    def configure_optimizers(self) -> Any:
        """AdamW, and where the fit validates, half the learning rate after 5 validations without gain."""
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        if not self.trainer.enable_validation:
            return optimizer
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=5)
        frequency = self.trainer.check_val_every_n_epoch or 1
        plateau = {"scheduler": scheduler, "monitor": "val_loss", "frequency": frequency}
        return {"optimizer": optimizer, "lr_scheduler": plateau}


@torch.no_grad()
def batch_inference(model: RqVae, dataloader: Iterable[Features], device: str = "cuda") -> Tensor:
    """The semantic IDs of all items of a loader, in its order.

    Args:
        dataloader: batches as tensors (batch, input_dim) or as dicts that hold such a tensor as `features`.
        device: where to compute; `cuda` is the CPU where there is no GPU.

    Returns:
        (n_items,) int64, or (n_items, num_levels) with more than one level, on the CPU.
    """
    return torch.cat([model.generate_semantic_ids(features).cpu() for features in _batches(model, dataloader, device)])


@torch.no_grad()
def evaluate_reconstruction(model: RqVae, dataloader: Iterable[Features], device: str = "cuda") -> dict[str, float]:
    """How near the decoded codes come to the features.

    Args:
        dataloader, device: as in `batch_inference`.

    Returns:
        `mse`, the mean over all elements, and its root `rmse`; `sse_per_item`, an item's summed squared error;
        `cosine_similarity`, the mean over the items.
    """
    squares, cosines, n_items = 0.0, 0.0, 0
    for features in _batches(model, dataloader, device):
        reconstructed = model(features)[0]
        squares += F.mse_loss(reconstructed, features, reduction="sum").item()
        cosines += F.cosine_similarity(reconstructed, features, dim=1).sum().item()
        n_items += len(features)
    mse = squares / (n_items * model.input_dim)
    return {
        "mse": mse,
        "rmse": mse**0.5,
        "sse_per_item": squares / n_items,
        "cosine_similarity": cosines / n_items,
    }


@torch.no_grad()
def evaluate_quantization(model: RqVae, dataloader: Iterable[Features], device: str = "cuda") -> dict[str, float]:
    """How the items spread over the codes.

    Args:
        dataloader, device: as in `batch_inference`.

    Returns:
        `usage_rate`, the share of all levels' codes in use; `unique_codes`, the number of distinct semantic IDs;
        `perplexity` of the semantic IDs, with one level the codebook's; and the figures of `code_health`.
    """
    codes = torch.cat([model.semantic_codes(features).cpu() for features in _batches(model, dataloader, device)])
    health = code_health(codes, model.quantizer.num_embeddings)
    usage = [health[f"usage_level_{level}"] for level in range(codes.shape[1])]
    return {"usage_rate": sum(usage) / len(usage), "unique_codes": len(torch.unique(codes, dim=0)), **health}


def _batches(model: RqVae, dataloader: Iterable[Features], device: str) -> Iterator[Tensor]:
    """The loader's features on the device, the model there too and in eval mode as long as they last."""
    if device == "cuda" and not torch.cuda.is_available():
        device = "cpu"
    model.to(device)
    is_empty = True
    with evaluating(model):
        for batch in dataloader:
            yield _features(batch).to(device)
            is_empty = False
    if is_empty:
        raise ValueError("dataloader must have at least one batch, got none; is its data set empty?")


def _features(batch: Features) -> Tensor:
    features = batch.get("features") if isinstance(batch, dict) else batch
    if not isinstance(features, Tensor):
        raise ValueError(f"a batch must be a tensor or a dict with a tensor 'features', got {type(features).__name__}")
    return features
