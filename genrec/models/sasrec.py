"""SASRec (Kang and McAuley 2018), trained with a softmax over the catalogue: the strong sequential baseline.

Letters: b batch, t positions, d dim.
"""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from genrec.layers.dropout import Dropout
from genrec.layers.initialization import initialize_weights
from genrec.modules.history_cut import last_items
from genrec.modules.losses import full_softmax_loss, sampled_softmax_loss
from genrec.networks.sequential.attention import MultiHeadAttention
from genrec.retrieval.ranks import discounted_gain, ranks_from_scores


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
    """Scores of all items after each position; the item table is input and output at once."""

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
        super().__init__()
        self.save_hyperparameters()
        if loss not in ("full_softmax", "sampled_softmax"):
            raise ValueError(f"loss must be full_softmax or sampled_softmax, got {loss!r}")
        self.n_items = n_items
        self.max_history = max_history
        self.loss = loss
        self.num_negatives = num_negatives
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.item_embedding = nn.Embedding(n_items + 1, embedding_dim, padding_idx=0)
        self.position_embedding = nn.Embedding(max_history, embedding_dim)
        blocks = nn.ModuleList(CausalBlock(embedding_dim, num_heads, dropout) for _ in range(num_layers))
        self.blocks: Sequence[CausalBlock] = blocks  # type: ignore[assignment]
        self.norm = nn.LayerNorm(embedding_dim)
        self.dropout = Dropout(dropout)
        initialize_weights(self, "normal")

    def forward(self, history: Tensor) -> Tensor:
        """The state after each item, at the places where the items stand.

        Args:
            history: (b, t) int64 item_ids, 0 = padding, on either side; t <= max_history.

        Returns:
            (b, t, d); zero at padding.

        Raises:
            ValueError: t is above max_history.
        """
        if history.shape[1] > self.max_history:
            raise ValueError(
                f"a history must have at most max_history={self.max_history} places, got {history.shape[1]}; cut it by "
                "genrec.modules.history_cut"
            )
        # real items first: then causality alone hides the padding, and positions count from the first item
        order = (history == 0).int().argsort(dim=1, stable=True)
        items = history.gather(1, order)
        x = self.item_embedding(items) + self.position_embedding.weight[: items.shape[1]]
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        states = torch.empty_like(x).scatter(1, order[..., None].expand_as(x), self.norm(x))
        return states.masked_fill((history == 0)[..., None], 0)

    def user_vectors(self, history: Tensor) -> Tensor:
        """The state after the last item, (b, d); of a longer history the last max_history items are read."""
        history = last_items(history, self.max_history)
        last = (torch.arange(history.shape[1], device=history.device) * (history != 0)).argmax(1)
        return self(history)[torch.arange(len(history), device=history.device), last]

    def scores(self, history: Tensor) -> Tensor:
        """(b, n_items + 1), column = item_id; padding is -inf."""
        scores = self.user_vectors(history) @ self.item_embedding.weight.T
        scores[:, 0] = -torch.inf
        return scores

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
