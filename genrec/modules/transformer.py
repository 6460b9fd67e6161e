"""A bidirectional transformer encoder of token sequences, with fixed sinusoidal positions (Vaswani et al. 2017)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genrec.layers.dropout import Dropout
from genrec.networks.sequential.attention import MultiHeadAttention


class PositionalEncoding(nn.Module):
    """Adds sines and cosines of the position, at wavelengths from 2 pi to 10000 * 2 pi.

    Example:
        >>> PositionalEncoding(embedding_dim=4)(torch.zeros(1, 2, 4)).round(decimals=2)
        tensor([[[0.0000, 1.0000, 0.0000, 1.0000],
                 [0.8400, 0.5400, 0.0100, 1.0000]]])
    """

    pe: Tensor

    def __init__(self, embedding_dim: int, max_seq_length: int = 5000) -> None:
        super().__init__()
        position = torch.arange(max_seq_length)[:, None]
        frequency = torch.exp(torch.arange(0, embedding_dim, 2) * (-math.log(10000.0) / embedding_dim))
        pe = torch.zeros(max_seq_length, embedding_dim)
        pe[:, 0::2] = torch.sin(position * frequency)
        pe[:, 1::2] = torch.cos(position * frequency)[:, : embedding_dim // 2]  # an odd width has a sine more
        self.register_buffer("pe", pe[None])

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, embedding_dim) to the same; length <= max_seq_length."""
        if x.shape[1] > self.pe.shape[1]:
            raise ValueError(
                f"a sequence may have at most max_seq_length={self.pe.shape[1]} positions, got {x.shape[1]}; cut it, "
                "or build the encoder with a larger max_seq_length"
            )
        return x + self.pe[:, : x.shape[1]]


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward layer, each normalised after its residual: `nn.TransformerEncoderLayer`."""

    def __init__(self, embedding_dim: int, num_heads: int, attn_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(embedding_dim, num_heads, dropout)
        self.attention_norm = nn.LayerNorm(embedding_dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(embedding_dim, attn_dim), nn.ReLU(), Dropout(dropout), nn.Linear(attn_dim, embedding_dim)
        )
        self.feed_forward_norm = nn.LayerNorm(embedding_dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, length, embedding_dim) to the same; mask as in `MultiHeadAttention`."""
        x = self.attention_norm(x + self.dropout(self.attention.attend(x, x, x, mask)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class TransformerEncoder(nn.Module):
    """Embeds ids, adds positions, and lets every position see every other.

    What is padding is said by the attention mask alone: no id is set apart.

    Args:
        attn_dim: of the feed-forward layers.

    Example:
        >>> encoder = TransformerEncoder(vocab_size=1000, embedding_dim=16, num_heads=2, num_layers=2, attn_dim=32)
        >>> input_ids = torch.tensor([[5, 17, 999], [8, 0, 0]])
        >>> encoder(input_ids, attention_mask=torch.tensor([[1, 1, 1], [1, 0, 0]])).shape
        torch.Size([2, 3, 16])
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        num_heads: int,
        num_layers: int,
        attn_dim: int,
        dropout: float = 0.1,
        max_seq_length: int = 1024,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.pos_encoding = PositionalEncoding(embedding_dim, max_seq_length)
        layers = nn.ModuleList(EncoderLayer(embedding_dim, num_heads, attn_dim, dropout) for _ in range(num_layers))
        self.transformer: Sequence[EncoderLayer] = layers  # type: ignore[assignment]
        self.dropout = Dropout(dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            input_ids: (batch, length) int, length <= max_seq_length.
            attention_mask: the same shape, 0 = padding.

        Returns:
            (batch, length, embedding_dim); zero at padding, which no other position sees.
        """
        x = self.dropout(self.pos_encoding(self.embedding(input_ids)))
        if attention_mask is None:
            for layer in self.transformer:
                x = layer(x)
            return x
        if attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"attention_mask must have the shape of input_ids, got {tuple(attention_mask.shape)} and "
                f"{tuple(input_ids.shape)}"
            )
        real = attention_mask != 0
        for layer in self.transformer:
            x = layer(x, real[:, None])
        return x.masked_fill(~real[..., None], 0)
