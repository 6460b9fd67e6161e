"""SASRec (Kang and McAuley 2018), trained with a softmax over the catalogue: the strong sequential baseline.

Letters: b batch, t positions, d dim.
"""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from genrec.modules.attention import MultiHeadAttention
from genrec.modules.dropout import Dropout
from genrec.modules.initialization import initialize_weights
from genrec.modules.ranks import discounted_gain, ranks_from_scores
from genrec.modules.schedules import learning_rate_factor
from genrec.networks.item_softmax import ItemSoftmax
from genrec.networks.repeats import RepeatBias


class CausalBlock(nn.Module):
    """Pre-norm self-attention that looks back only, and a feed-forward layer."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, num_heads, dropout=0.0)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.attention_norm(x)
        x = x + self.dropout(self.attention.attend(normed, normed, normed, is_causal=True))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class SASRec(pl.LightningModule):
    """Scores of all items after each position; the item table is input and output at once.

    Args:
        input_norm: normalise what enters the first block, so that neither items nor positions drown the other.
        learns_repeats: whether items of the history have a learned bias.
        content_dim: of what is known of items beforehand, such as their words, which `set_content` takes; a projection
            of it is added to each item's own vector. 0 for nothing.
    """

    content: Tensor

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
        input_norm: bool = False,
        learns_repeats: bool = False,
        schedule: str = "constant",
        warmup_steps: int = 0,
        content_dim: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if loss not in ("full_softmax", "sampled_softmax"):
            raise ValueError(f"loss must be full_softmax or sampled_softmax, got {loss!r}")
        self.n_items = n_items
        self.max_history = max_history
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.item_embedding = nn.Embedding(n_items + 1, embedding_dim, padding_idx=0)
        self.register_buffer("content", torch.zeros(n_items + 1, content_dim) if content_dim else None)
        self.content_projection = nn.Linear(content_dim, embedding_dim, bias=False) if content_dim else None
        self.position_embedding = nn.Embedding(max_history, embedding_dim)
        self.input_norm = nn.LayerNorm(embedding_dim) if input_norm else nn.Identity()
        blocks = nn.ModuleList(CausalBlock(embedding_dim, num_heads, dropout) for _ in range(num_layers))
        self.blocks: Sequence[CausalBlock] = blocks  # type: ignore[assignment]
        self.norm = nn.LayerNorm(embedding_dim)
        self.dropout = Dropout(dropout)
        self.repeats = RepeatBias(max_history) if learns_repeats else None
        self.item_softmax = ItemSoftmax(n_items, 0 if loss == "full_softmax" else num_negatives, self.repeats)
        initialize_weights(self, "normal")

    def set_content(self, vectors: Tensor) -> None:
        """What is known of items beforehand: (n_items + 1, content_dim), row 0 = padding; saved with the weights."""
        expected = (self.n_items + 1, self.hparams["content_dim"])
        if vectors.shape != expected:
            raise ValueError(f"content must be {expected}, got {tuple(vectors.shape)}")
        self.content.copy_(vectors)

    def item_vectors(self, items: Tensor) -> Tensor:
        """What stands for items at the input and at the output: item_ids of any shape to (..., d)."""
        vectors = self.item_embedding(items)
        if self.content_projection is None:
            return vectors
        return vectors + self.content_projection(self.content[items])

    def forward(self, history: Tensor) -> Tensor:
        """The state after each item, at the places where the items stand.

        Args:
            history: (b, t) int64 item_ids, 0 = padding, on either side; t <= max_history.

        Returns:
            (b, t, d); zero at padding.
        """
        # real items first: then causality alone hides the padding, and positions count from the first item
        order = (history == 0).int().argsort(dim=1, stable=True)
        items = history.gather(1, order)
        x = self.item_vectors(items) + self.position_embedding.weight[: items.shape[1]]
        x = self.dropout(self.input_norm(x))
        for block in self.blocks:
            x = block(x)
        states = torch.empty_like(x).scatter(1, order[..., None].expand_as(x), self.norm(x))
        return states.masked_fill((history == 0)[..., None], 0)

    def user_vectors(self, history: Tensor) -> Tensor:
        """The state after the last item, (b, d)."""
        last = (torch.arange(history.shape[1], device=history.device) * (history != 0)).argmax(1)
        return self(history)[torch.arange(len(history), device=history.device), last]

    def scores(self, history: Tensor) -> Tensor:
        """(b, n_items + 1), column = item_id; padding is -inf."""
        items = torch.arange(self.n_items + 1, device=history.device)
        scores = self.user_vectors(history) @ self.item_vectors(items).T
        if self.repeats is not None:
            scores = self.repeats.add_to(scores, history)
        scores[:, 0] = -torch.inf
        return scores

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on `history` (b, t) and the next item at each position, `target` (b, t), 0 = none."""
        loss = self.item_softmax(self(batch["history"]), batch, self.item_vectors)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=int((batch["target"] != 0).sum()))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Full ranking of `target` (b,) after `history` (b, t)."""
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
