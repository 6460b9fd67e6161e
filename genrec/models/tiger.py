"""TIGER (Rajput et al. 2023, arXiv 2305.05065): the next item's semantic ID, generated code by code."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from genrec.modules.generator import SemanticIdGenerator
from genrec.modules.item_generator import GeneratedItems, ItemGenerator
from genrec.modules.ranks import discounted_gain, ranks_in_lists
from genrec.modules.schedules import learning_rate_factor


class Tiger(pl.LightningModule):
    """An encoder-decoder over the tokens of a code table.

    Args:
        vocab_size: 1 + code_length * code_num; token 0 is padding, code c of level l is token 1 + l * code_num + c.
        max_seq_length: how many tokens a history may have; who builds batches cuts them.
        code_length: codes of a semantic ID, the collision code included.
        n_items: the size of the catalogue, for the code table that `set_code_table` takes.
        head_dim: of the attention; by default embedding_dim / num_heads.
        causal: a causal encoder, which trains every position of a sequence in one pass.
        n_beams: of the search that validates.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 512,
        num_heads: int = 8,
        num_layers: int = 6,
        attn_dim: int = 2048,
        dropout: float = 0.1,
        max_seq_length: int = 1024,
        learning_rate: float = 1e-4,
        *,
        code_length: int = 4,
        n_items: int = 0,
        head_dim: int | None = None,
        causal: bool = False,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        schedule: str = "constant",
        n_beams: int = 20,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if (vocab_size - 1) % code_length:
            raise ValueError(
                f"vocab_size must be 1 + code_length * code_num, got vocab_size={vocab_size}, code_length={code_length}"
            )
        self.max_history = max_seq_length // code_length
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.n_beams = n_beams
        network = SemanticIdGenerator(
            code_num=(vocab_size - 1) // code_length,
            code_length=code_length,
            embedding_dim=embedding_dim,
            num_heads=num_heads,
            head_dim=head_dim or embedding_dim // num_heads,
            attn_dim=attn_dim,
            num_layers=num_layers,
            dropout=dropout,
            causal=causal,
        )
        self.generator = ItemGenerator(network, n_items)

    def set_code_table(self, table: Tensor) -> None:
        """The semantic IDs to generate: (n_items + 1, code_length) int, row 0 = -1; saved with the weights."""
        self.generator.set_code_table(table)

    def forward(self, history: Tensor, target: Tensor) -> Tensor:
        """Logits of the targets' codes, (batch, n, code_length, code_num); arguments as in `ItemGenerator.forward`."""
        return self.generator(history, target)

    def generate(self, history: Tensor, n_beams: int, constrained: bool = True) -> GeneratedItems:
        """Ranked items of each history (batch, length) of item_ids; see `ItemGenerator.generate`."""
        return self.generator.generate(history, n_beams, constrained)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on `history` (batch, length) and `target`, (batch,) or (batch, length), 0 = none."""
        target = batch["target"].view(len(batch["history"]), -1)
        loss = self.generator.code_loss(self(batch["history"], target), target)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(target))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The loss, and the full ranking of `target` (batch,) by a constrained search."""
        history, target = batch["history"], batch["target"]
        size, ranks = len(target), ranks_in_lists(self.generate(history, self.n_beams).items, target)
        loss = self.generator.code_loss(self(history, target[:, None]), target[:, None])
        self.log("val_loss", loss, batch_size=size)
        self.log("val_ndcg_at_10", discounted_gain(ranks, 10).mean(), batch_size=size)
        self.log("val_recall_at_10", (ranks <= 10).float().mean(), batch_size=size)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        total_steps = int(self.trainer.estimated_stepping_batches)
        factor = learning_rate_factor(self.schedule, self.warmup_steps, total_steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
