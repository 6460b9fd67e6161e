"""Parallel semantic IDs as they are trained: by a softmax over items, and a little by each digit's own."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genrec.errors import UserError
from genrec.layers.processes import rows_of_all, targets_of_all, weight_of
from genrec.models.softmax import ItemSoftmax, VectorsOf
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.retrieval.ranks import ranking_figures
from genrec.storage.files import load_arrays
from genrec.training.lightning import pl
from genrec.training.schedules import scheduled


class Parallel(ParallelNetwork, pl.LightningModule):
    """`ParallelNetwork` with its losses, its optimizer and its schedule.

    Args:
        num_negatives: of the loss over items; 0 takes all items.
        digit_loss_weight: of the digits' cross-entropy beside the loss over items.
        num_trained_digits: how many of them, drawn anew each step, that loss is measured on; all would cost as much as
            the rest of the step.
        schedule: constant, inverse_sqrt or cosine; see `learning_rate_factor`.
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
        *,
        learns_repeats: bool = True,
        num_negatives: int = 4096,
        digit_loss_weight: float = 0.05,
        num_trained_digits: int = 8,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: str = "cosine",
        warmup_steps: int = 500,
    ) -> None:
        super().__init__(
            n_items, num_digits, code_num, embedding_dim, num_layers, num_heads, dropout, max_history,
            learns_repeats=learns_repeats,
        )  # fmt: skip
        self.save_hyperparameters()
        self.digit_loss_weight = digit_loss_weight
        self.num_trained_digits = min(num_trained_digits, num_digits)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.softmax = ItemSoftmax(n_items, num_negatives)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """`item_loss` and `digit_loss`, means over the known targets; and `loss`, their weighted sum.

        Args:
            batch: `history` and `target`, (b, t) int64, padded with 0 on the right.
        """
        vectors_of, known = self._vectors_of_a_step(), batch["target"] != 0
        states = self.transformer(batch["history"], vectors_of) * self.log_scale.exp()
        item_loss = self.softmax(states, batch, vectors_of, self.repeats)
        digit_loss = self._digit_loss(states[known], batch["target"][known])
        loss = item_loss + self.digit_loss_weight * digit_loss
        return {"loss": loss, "item_loss": item_loss, "digit_loss": digit_loss}

    def _vectors_of_a_step(self) -> VectorsOf:
        """As `item_vectors`; where a step needs all items' vectors anyway, each is made once and looked up."""
        if self.softmax.num_negatives < self.n_items:
            return self.item_vectors
        table = self.item_vectors(torch.arange(self.n_items + 1, device=self.digits.device))
        return lambda items: F.embedding(items, table)

    def _digit_loss(self, states: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of some digits: states (n, d), targets (n,)."""
        drawn = torch.randperm(self.num_digits, device=states.device)[: self.num_trained_digits]
        codes = self.digits[targets][:, drawn].long()
        return F.cross_entropy(self.logits_of_digits(states, drawn).flatten(0, 1), codes.flatten())

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on `history` and the next item at each position, `target`, (batch, length), 0 = none."""
        n_known = int((batch["target"] != 0).sum())
        total = targets_of_all(n_known)
        losses = {name: loss * weight_of(n_known, total) for name, loss in self.losses(batch).items()}
        for name, loss in losses.items():
            self.log(f"train_{name}", loss.detach(), on_step=False, on_epoch=True, batch_size=total, sync_dist=True)
        return losses["loss"]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Full ranking of `target` (batch,) after `history` (batch, length)."""
        n_users = len(batch["target"])
        total = rows_of_all(n_users)
        for name, value in ranking_figures(self.scores, batch["history"], batch["target"], self.n_items).items():
            self.log(f"val_{name}", value * weight_of(n_users, total), batch_size=total, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, betas=(0.9, 0.98), weight_decay=self.weight_decay, fused=True
        )
        return scheduled(optimizer, self.schedule, self.warmup_steps, self)


def load_digits(file: Path, n_items: int, code_num: int) -> Tensor:
    """Read a table of digits and check that it fits the catalogue and the codes.

    Returns:
        (n_items + 1, num_digits) int32, row 0 = -1.

    Raises:
        UserError: the file is damaged; the table has other rows than the catalogue, or a code outside 0..code_num - 1.
    """
    array = load_arrays(file).get("array")
    if array is None or array.dtype.kind not in "iu":
        kind = "several arrays" if array is None else str(array.dtype)
        raise UserError(f"{file} must hold one array of integers, got {kind}; build it with `build_digits`")
    if array.ndim != 2 or len(array) != n_items + 1 or not array.shape[1]:
        raise UserError(
            f"{file} must have a row for padding and each of the {n_items} items, got shape {array.shape}; build it "
            "again from these items' embeddings"
        )
    if (array[0] != -1).any() or (array[1:] < 0).any() or (array[1:] >= code_num).any():
        raise UserError(
            f"{file} must hold -1 in row 0 and codes 0..{code_num - 1} (build_digits.code_num) below it; build it again"
        )
    return torch.from_numpy(array.astype(np.int32))
