"""Multi-head attention: its output by torch's fused kernel, or with the weights that people look at.

Letters: b batch, q queries, k keys, h heads, d head_dim.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.layers.dropout import Dropout


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in several heads (Vaswani et al. 2017, section 3.2).

    A call returns the weights too. `attend` returns the same output without them, which is faster and, since no
    (q, k) matrix is kept, lighter.

    Example:
        >>> attention = MultiHeadAttention(embedding_dim=8, num_heads=2)
        >>> queries, memory = torch.rand(1, 3, 8), torch.rand(1, 5, 8)
        >>> output, weights = attention(queries, memory, memory)
        >>> output.shape, weights.shape
        (torch.Size([1, 3, 8]), torch.Size([1, 2, 3, 5]))
    """

    def __init__(self, embedding_dim: int, num_heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        if embedding_dim % num_heads:
            raise ValueError(f"num_heads must divide embedding_dim, got {num_heads} and {embedding_dim}")
        self.embedding_dim = embedding_dim
        self.num_heads = num_heads
        self.head_dim = embedding_dim // num_heads
        self.w_q = nn.Linear(embedding_dim, embedding_dim)
        self.w_k = nn.Linear(embedding_dim, embedding_dim)
        self.w_v = nn.Linear(embedding_dim, embedding_dim)
        self.w_o = nn.Linear(embedding_dim, embedding_dim)
        self.dropout = Dropout(dropout)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Attend, and show where.

        Args:
            query: (b, q, embedding_dim).
            key, value: (b, k, embedding_dim).
            mask: (b, q, k), or 1 in place of a size; 0 hides a key from a query.

        Returns:
            output (b, q, embedding_dim), and the weights (b, h, q, k) before dropout: each row sums to 1, or is 0
            throughout where a query may look at nothing.
        """
        query, key, value = self._project(query, key, value)
        scores = query @ key.transpose(-2, -1) / math.sqrt(self.head_dim)
        if mask is None:
            weights = scores.softmax(-1)
        else:
            hidden = ~_visible(mask)
            weights = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(hidden, 0)
        return self._merge(self.dropout(weights) @ value), weights

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """The output alone, (b, q, embedding_dim).

        Args:
            mask: as in `forward`.
            is_causal: query i sees keys 0..i; instead of a mask.
        """
        query, key, value = self._project(query, key, value)
        visible = None if mask is None else _visible(mask)
        if is_causal and query.dtype == torch.bfloat16 and query.device.type == "cpu" and query.requires_grad:
            # backward, torch's fused kernel takes four to ten times as long as the plain formula
            return self._merge(self.dropout(_causal_weights(query, key)) @ value)
        dropout = self.dropout.p if self.training else 0.0
        return self._merge(
            F.scaled_dot_product_attention(query, key, value, visible, dropout_p=dropout, is_causal=is_causal)
        )

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        """Each (b, h, q or k, d); self-attention takes one product for all three."""
        linears, heads = (self.w_q, self.w_k, self.w_v), (self.num_heads, self.head_dim)
        if query is key is value and all(type(linear) is nn.Linear for linear in linears):
            weight, bias = (torch.cat([getattr(linear, name) for linear in linears]) for name in ("weight", "bias"))
            return F.linear(query, weight, bias).unflatten(-1, (3, *heads)).permute(2, 0, 3, 1, 4).unbind()
        inputs = (query, key, value)
        return [linear(x).unflatten(-1, heads).transpose(1, 2) for linear, x in zip(linears, inputs, strict=True)]

    def _merge(self, attended: Tensor) -> Tensor:
        """(b, h, q, d) to (b, q, embedding_dim)."""
        return self.w_o(attended.transpose(1, 2).flatten(2))


def _causal_weights(query: Tensor, key: Tensor) -> Tensor:
    """(b, h, q, k): query i sees keys 0..i."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -torch.inf).softmax(-1)


def _visible(mask: Tensor) -> Tensor:
    """(b, 1, q, k) bool, the same for all heads."""
    if mask.ndim != 3:
        raise ValueError(f"mask must have shape (batch, queries, keys), got {tuple(mask.shape)}")
    return (mask != 0)[:, None]
