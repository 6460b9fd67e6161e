"""The blocks of T5 (Raffel et al. 2020): pre-norm RMSNorm, no biases, unscaled attention with relative position bias.

Letters: b batch, q queries, k keys, h heads, d head_dim.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.layers.dropout import Dropout


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(query key^T + bias) value, without T5's scaling and without dropout of the probabilities.

    Args:
        query: (b, h, q, d).
        key, value: (b, h, k, d).
        bias: broadcastable to (b, h, q, k); minus infinity hides a key.

    Returns:
        (b, h, q, d).
    """
    if bias is not None and bias.requires_grad:
        # torch has no fused kernel that gives the bias a gradient; its own fallback is slower than the plain formula
        return (query @ key.transpose(-1, -2) + bias).softmax(-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)


class RelativePositionBias(nn.Module):
    """A learned number for each head and each bucket of distances; near distances have buckets of their own."""

    def __init__(self, num_heads: int, bidirectional: bool, num_buckets: int = 32, max_distance: int = 128) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bias = nn.Embedding(num_buckets, num_heads)

    def forward(self, distance: Tensor) -> Tensor:
        """The bias of each key position - query position.

        Args:
            distance: (..., q, k) int64.

        Returns:
            (..., h, q, k).
        """
        return self.bias(self.buckets(distance)).movedim(-1, -3)

    def buckets(self, distance: Tensor) -> Tensor:
        """The bucket of key position - query position, as T5 numbers them.

        Example:
            >>> RelativePositionBias(1, bidirectional=True).buckets(torch.tensor([-200, -8, -1, 0, 1, 200])).tolist()
            [15, 8, 1, 0, 17, 31]
        """
        n_buckets, offset = self.num_buckets, torch.zeros_like(distance)
        if self.bidirectional:
            n_buckets //= 2
            offset = (distance > 0).long() * n_buckets
            distance = distance.abs()
        else:
            distance = (-distance).clamp_min(0)
        n_exact = n_buckets // 2
        scale = (n_buckets - n_exact) / math.log(self.max_distance / n_exact)
        far = n_exact + (torch.log(distance.clamp_min(1).float() / n_exact) * scale).long()
        return offset + torch.where(distance < n_exact, distance, far.clamp_max(n_buckets - 1))


class SelfAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(dim, 3 * num_heads * head_dim, bias=False)
        self.output = nn.Linear(num_heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """(b, k, dim) to the same; bias as in `attend`."""
        return self.output(merge_heads(attend(*self.project(x), bias)))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (b, h, k, d)."""
        query, key, value = self.query_key_value(x).chunk(3, dim=-1)
        return split_heads(query, self.num_heads), split_heads(key, self.num_heads), split_heads(value, self.num_heads)


class CrossAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, num_heads * head_dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * num_heads * head_dim, bias=False)
        self.output = nn.Linear(num_heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, key_value: tuple[Tensor, Tensor], bias: Tensor | None) -> Tensor:
        """(b, q, dim) to the same; the keys and values come from `project`, once for all queries of a user."""
        return self.output(merge_heads(attend(split_heads(self.query(x), self.num_heads), *key_value, bias)))

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Key and value of the encoder's output, each (b, h, k, d)."""
        key, value = self.key_value(memory).chunk(2, dim=-1)
        return split_heads(key, self.num_heads), split_heads(value, self.num_heads)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(b, q, h * d) to (b, h, q, d), a view."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(b, h, q, d) to (b, q, h * d)."""
    return x.transpose(1, 2).flatten(2)


class FeedForward(nn.Sequential):
    def __init__(self, dim: int, inner_dim: int, dropout: Dropout) -> None:
        super().__init__(
            nn.Linear(dim, inner_dim, bias=False),
            nn.ReLU(inplace=True),
            dropout,
            nn.Linear(inner_dim, dim, bias=False),
        )


class EncoderBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int, head_dim: int, inner_dim: int, dropout: Dropout) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(dim, eps=1e-6)
        self.attention = SelfAttention(dim, num_heads, head_dim)
        self.feed_forward_norm = nn.RMSNorm(dim, eps=1e-6)
        self.feed_forward = FeedForward(dim, inner_dim, dropout)
        self.dropout = dropout

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), bias))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class DecoderBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int, head_dim: int, inner_dim: int, dropout: Dropout) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(dim, eps=1e-6)
        self.attention = SelfAttention(dim, num_heads, head_dim)
        self.cross_norm = nn.RMSNorm(dim, eps=1e-6)
        self.cross_attention = CrossAttention(dim, num_heads, head_dim)
        self.feed_forward_norm = nn.RMSNorm(dim, eps=1e-6)
        self.feed_forward = FeedForward(dim, inner_dim, dropout)
        self.dropout = dropout

    def forward(self, x: Tensor, bias: Tensor, memory: tuple[Tensor, Tensor], memory_bias: Tensor | None) -> Tensor:
        """(b, n, l, dim) to the same: n targets a user, whose l positions see each other, and all see the memory."""
        attended = self.attention(self.attention_norm(x).flatten(0, 1), bias)
        x = x + self.dropout(attended.view_as(x))
        return self.read_memory(x.flatten(1, 2), memory, memory_bias).view_as(x)

    def read_memory(self, x: Tensor, memory: tuple[Tensor, Tensor], memory_bias: Tensor | None) -> Tensor:
        """The block's second and third part, (b, q, dim): no query looks at another one, beams of a search included."""
        x = x + self.dropout(self.cross_attention(self.cross_norm(x), memory, memory_bias))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
