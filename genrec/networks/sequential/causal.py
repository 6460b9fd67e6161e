"""The transformer block that reads a history from left to right."""

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
