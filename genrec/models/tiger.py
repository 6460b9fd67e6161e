"""TIGER as it is trained: by the cross-entropy of the next item's codes."""

from typing import Any

import torch
from torch import Tensor

from genrec.generation.itemwise import ItemwiseGenerator
from genrec.layers.processes import rows_of_all, targets_of_all, weight_of
from genrec.networks.generating.tiger import TigerNetwork
from genrec.retrieval.ranks import found_figures
from genrec.training.lightning import pl
from genrec.training.schedules import learning_rate_factor


class Tiger(TigerNetwork, pl.LightningModule):
    """`TigerNetwork` with its loss, its optimizer and its schedule.

    Args:
        n_beams: of the search that validates.
        dense_loss_weight: of a softmax over items after each position, by the items' own vectors, beside the codes'
            cross-entropy; needs item_vectors.
        num_negatives: of that softmax; 0 takes all items.
        schedule: constant, inverse_sqrt or cosine; see `learning_rate_factor`.

    Example:
        >>> from genrec.codes.code_table import to_tokens
        >>> table = torch.tensor([[-1, -1], [0, 1], [0, 2], [3, 0]])  # three items, two codes each, four codes a level
        >>> model = Tiger(9, embedding_dim=8, num_heads=2, num_layers=1, attn_dim=8, code_length=2, n_items=3).eval()
        >>> model.set_code_table(table)
        >>> input_ids = to_tokens(table, code_num=4)[[1, 3]].flatten()[None]
        >>> input_ids.tolist()
        [[1, 6, 4, 5]]
        >>> model(input_ids).shape
        torch.Size([1, 4, 9])
        >>> model.generate(input_ids, n_beams=3).items.sort().values.tolist()
        [[1, 2, 3]]
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
        itemwise: bool = False,
        decoder_dropout: float = 0.1,
        item_vectors: bool = False,
        learns_repeats: bool = False,
        dense_loss_weight: float = 0.0,
        num_negatives: int = 2048,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        schedule: str = "constant",
        n_beams: int = 20,
    ) -> None:
        super().__init__(
            vocab_size, embedding_dim, num_heads, num_layers, attn_dim, dropout, max_seq_length,
            code_length=code_length, n_items=n_items, head_dim=head_dim, causal=causal, itemwise=itemwise,
            decoder_dropout=decoder_dropout, item_vectors=item_vectors, learns_repeats=learns_repeats, n_beams=n_beams,
        )  # fmt: skip
        self.save_hyperparameters()
        if dense_loss_weight > 0 and not item_vectors:
            raise ValueError("dense_loss_weight needs item_vectors=True: items must have vectors to be told apart by")
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.dense_loss_weight = dense_loss_weight
        self.num_negatives = num_negatives

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on `history` (batch, length) and `target`, (batch,) or (batch, length), 0 = none; or on tokens."""
        history, target = self._items_of(batch)
        target = target.view(len(history), -1)
        n_known, size = (target != 0).sum(), rows_of_all(len(target))
        weight = weight_of(n_known, targets_of_all(n_known))
        memory, _, logits = self.generator.read(history, target)
        loss = self.generator.code_loss(logits, target) * weight
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        if self.dense_loss_weight == 0:
            return loss
        assert isinstance(self.generator.network, ItemwiseGenerator)
        dense = self.generator.network.item_loss(memory, history, target, self.num_negatives) * weight
        self.log("train_dense_loss", dense, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return loss + self.dense_loss_weight * dense

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The loss, and the full ranking of `target` (batch,) by a constrained search."""
        self._measure(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """As a validation step, under the names `test_...`."""
        self._measure(batch, "test")

    def _measure(self, batch: dict[str, Tensor], prefix: str) -> None:
        history, target = self._items_of(batch)
        size, found = rows_of_all(len(target)), self.generator.generate(history, self.n_beams).items
        loss = self.generator.code_loss(self.generator(history, target[:, None]), target[:, None])
        for name, value in {"loss": loss, **found_figures(found, history, target)}.items():
            self.log(f"{prefix}_{name}", value * weight_of(len(target), size), batch_size=size, sync_dist=True)

    def _items_of(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """History and target as item_ids: a batch's own, or what its `input_ids` and `labels` spell."""
        if "history" in batch:
            return batch["history"], batch["target"]
        return self.items_of(batch["input_ids"]), self.items_of(batch["labels"])[:, 0]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        total_steps = int(self.trainer.estimated_stepping_batches)
        factor = learning_rate_factor(self.schedule, self.warmup_steps, total_steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
