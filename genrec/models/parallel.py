"""Parallel semantic IDs as Lightning trains them."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from genrec.modules.ranks import discounted_gain, ranks_from_scores
from genrec.modules.schedules import learning_rate_factor
from genrec.networks.parallel import ParallelSemanticId


class Parallel(pl.LightningModule):
    """Trains a `ParallelSemanticId`; its settings are the network's and the optimizer's.

    Args:
        digits: (n_items + 1, m) int, row 0 = -1; None leaves them to the checkpoint that is loaded.
    """

    def __init__(
        self,
        n_items: int,
        num_digits: int,
        code_num: int = 256,
        embedding_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.5,
        max_history: int = 50,
        num_negatives: int = 4096,
        digit_loss_weight: float = 0.05,
        num_trained_digits: int = 8,
        learns_repeats: bool = True,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: str = "cosine",
        warmup_steps: int = 500,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.n_items = n_items
        self.max_history = max_history
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.network = ParallelSemanticId(
            torch.full((n_items + 1, num_digits), -1),
            code_num,
            embedding_dim=embedding_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            dropout=dropout,
            max_history=max_history,
            num_negatives=num_negatives,
            digit_loss_weight=digit_loss_weight,
            num_trained_digits=num_trained_digits,
            learns_repeats=learns_repeats,
        )

    def set_digits(self, digits: Tensor) -> None:
        """What the items are made of: (n_items + 1, m) int, row 0 = -1; saved with the weights."""
        if digits.shape != self.network.digits.shape:
            raise ValueError(f"digits must be {tuple(self.network.digits.shape)}, got {tuple(digits.shape)}")
        self.network.digits.copy_(digits)

    def scores(self, history: Tensor) -> Tensor:
        """(batch, n_items + 1), column = item_id; padding is -inf."""
        return self.network.scores(history)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on `history` and the next item at each position, `target`, (batch, length), 0 = none."""
        losses = self.network.losses(batch)
        size = int((batch["target"] != 0).sum())
        for name, loss in losses.items():
            self.log(f"train_{name}", loss.detach(), on_step=False, on_epoch=True, batch_size=size)
        return losses["loss"]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Full ranking of `target` (batch,) after `history` (batch, length)."""
        scores = self.scores(batch["history"])
        without_history = scores.scatter(1, batch["history"], -torch.inf)
        for suffix, each in (("", scores), ("_excluded", without_history)):
            ranks = ranks_from_scores(each, batch["target"])
            self.log(f"val_ndcg_at_10{suffix}", discounted_gain(ranks, 10).mean(), batch_size=len(ranks))
            self.log(f"val_recall_at_10{suffix}", (ranks <= 10).float().mean(), batch_size=len(ranks))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, betas=(0.9, 0.98), weight_decay=self.weight_decay, fused=True
        )
        total_steps = int(self.trainer.estimated_stepping_batches) if self.schedule == "cosine" else 0
        factor = learning_rate_factor(self.schedule, self.warmup_steps, total_steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
