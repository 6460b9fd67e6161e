"""SASRec as it is trained: by a softmax over the catalogue, or over a sample of it."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from genrec.choices import SasrecLoss, check_choice
from genrec.models.softmax import full_softmax_loss, sampled_softmax_loss
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.retrieval.ranks import discounted_gain, ranks_from_scores


class SASRec(SASRecNetwork, pl.LightningModule):
    """`SASRecNetwork` with its loss and its optimizer.

    Args:
        loss: full_softmax, or sampled_softmax with `num_negatives` uniform negatives that the batch shares.
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
    ) -> None:
        super().__init__(n_items, embedding_dim, num_layers, num_heads, dropout, max_history)
        self.save_hyperparameters()
        check_choice("loss", loss, SasrecLoss)
        self.loss = loss
        self.num_negatives = num_negatives
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on `history` (b, t) and the next item at each position, `target` (b, t), 0 = none."""
        known = batch["target"] != 0
        states, targets = self(batch["history"])[known], batch["target"][known]
        if self.loss == "full_softmax":
            loss = full_softmax_loss(states, targets, self.item_embedding.weight)
        else:
            negatives = torch.randint(1, self.n_items + 1, (self.num_negatives,), device=self.device)
            loss = sampled_softmax_loss(states, targets, self.item_embedding.weight, negatives)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(targets))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Full ranking of `target` (b,) after `history` (b, t)."""
        ranks = ranks_from_scores(self.scores(batch["history"]), batch["target"])
        self.log("val_ndcg_at_10", discounted_gain(ranks, 10).mean(), batch_size=len(ranks))
        self.log("val_recall_at_10", (ranks <= 10).float().mean(), batch_size=len(ranks))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, betas=(0.9, 0.98), weight_decay=self.weight_decay, fused=True
        )
