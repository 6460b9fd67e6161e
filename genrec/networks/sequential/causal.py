"""The transformer that reads a history from left to right, whatever an item's vector is made of.

Letters: b batch, t positions, d dim.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from genrec.layers.dropout import Dropout
from genrec.networks.sequential.attention import MultiHeadAttention


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


class CausalTransformer(nn.Module):
    """States after each item, each made of that item and those before it (SASRec: Kang and McAuley 2018).

    Args:
        input_norm: normalise what enters the first block, so that neither items nor positions drown the other.
    """

    def __init__(
        self, dim: int, num_layers: int, num_heads: int, dropout: float, max_history: int, input_norm: bool
    ) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(max_history, dim)
        self.input_norm = nn.LayerNorm(dim) if input_norm else nn.Identity()
        blocks = nn.ModuleList(CausalBlock(dim, num_heads, dropout) for _ in range(num_layers))
        self.blocks: Sequence[CausalBlock] = blocks  # type: ignore[assignment]
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, history: Tensor, vectors_of: Callable[[Tensor], Tensor]) -> Tensor:
        """The state after each item, at the places where the items stand.

        Args:
            history: (b, t) int64 item_ids, 0 = padding, on either side; t <= max_history.
            vectors_of: item_ids of any shape to their vectors (..., d).

        Returns:
            (b, t, d); zero at padding.

        Raises:
            ValueError: t is above max_history.
        """
        max_history = self.position_embedding.num_embeddings
        if history.shape[1] > max_history:
            raise ValueError(
                f"a history must have at most max_history={max_history} places, got {history.shape[1]}; cut it by "
                "genrec.layers.history_cut"
            )
        # real items first: then causality alone hides the padding, and positions count from the first item
        order = (history == 0).int().argsort(dim=1, stable=True)
        items = history.gather(1, order)
        x = self.dropout(self.input_norm(vectors_of(items) + self.position_embedding.weight[: items.shape[1]]))
        for block in self.blocks:
            x = block(x)
        states = torch.empty_like(x).scatter(1, order[..., None].expand_as(x), self.norm(x))
        return states.masked_fill((history == 0)[..., None], 0)


def last_states(states: Tensor, history: Tensor) -> Tensor:
    """The state after the last item: states (b, t, d) and history (b, t) to (b, d)."""
    last = (torch.arange(history.shape[1], device=history.device) * (history != 0)).argmax(1)
    return states[torch.arange(len(history), device=history.device), last]
