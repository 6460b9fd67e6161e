"""SASRec as it is trained: by a softmax over the catalogue, or over a sample of it."""

from typing import Any

import torch
from torch import Tensor

from genrec.choices import SasrecLoss, check_choice
from genrec.layers.processes import rows_of_all, targets_of_all, weight_of
from genrec.models.softmax import ItemSoftmax
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.retrieval.ranks import ranking_figures
from genrec.training.lightning import pl
from genrec.training.schedules import scheduled
from genrec.training.sparse_rows import RowwiseAdamW, clip_gradients


class SASRec(SASRecNetwork, pl.LightningModule):
    """`SASRecNetwork` with its loss and its optimizer.

    Args:
        loss: full_softmax, or sampled_softmax with `num_negatives` uniform negatives that the batch shares.
        schedule: constant, inverse_sqrt or cosine; see `learning_rate_factor`.
        sparse_items: only sampled_softmax, step the vectors of a batch's items alone, see `RowwiseAdamW`.

    Raises:
        ValueError: sparse_items with full_softmax, by which each step touches all items.
    """

    def __init__(
        self,
        n_items: int,
        embedding_dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.3,
        max_history: int = 50,
        loss: str = "full_softmax",
        num_negatives: int = 512,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        *,
        input_norm: bool = False,
        learns_repeats: bool = False,
        content_dim: int = 0,
        schedule: str = "constant",
        warmup_steps: int = 0,
        sparse_items: bool = False,
    ) -> None:
        super().__init__(
            n_items, embedding_dim, num_layers, num_heads, dropout, max_history,
            input_norm=input_norm, learns_repeats=learns_repeats, content_dim=content_dim,
        )  # fmt: skip
        # named where it is used alone: checkpoints of others have the bytes that they had before there was a choice
        self.save_hyperparameters(ignore=[] if sparse_items else ["sparse_items"])
        check_choice("loss", loss, SasrecLoss)
        if sparse_items and loss == "full_softmax":
            raise ValueError("sparse_items needs loss=sampled_softmax: a full softmax touches all items at each step")
        self.item_embedding.sparse = sparse_items
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.softmax = ItemSoftmax(n_items, 0 if loss == "full_softmax" else num_negatives)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on `history` (b, t) and the next item at each position, `target` (b, t), 0 = none."""
        loss = self.softmax(self(batch["history"]), batch, self.item_vectors, self.repeats)
        n_known = int((batch["target"] != 0).sum())
        total = targets_of_all(n_known)
        loss = loss * weight_of(n_known, total)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=total, sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Full ranking of `target` (b,) after `history` (b, t)."""
        n_users = len(batch["target"])
        total = rows_of_all(n_users)
        for name, value in ranking_figures(self.scores, batch["history"], batch["target"], self.n_items).items():
            self.log(f"val_{name}", value * weight_of(n_users, total), batch_size=total, sync_dist=True)

    def configure_optimizers(self) -> Any:
        kind = RowwiseAdamW if self.item_embedding.sparse else torch.optim.AdamW
        optimizer = kind(
            self.parameters(), lr=self.learning_rate, betas=(0.9, 0.98), weight_decay=self.weight_decay, fused=True
        )
        return scheduled(optimizer, self.schedule, self.warmup_steps, self)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning's, which knows no sparse gradients, unless there are some."""
        if self.item_embedding.sparse and gradient_clip_val:
            clip_gradients(self.parameters(), gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
