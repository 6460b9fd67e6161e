"""What TIGER and ETEGRec share."""

from typing import Literal

from genrec.params.types import Dropout, Positive, nested


@nested
class GeneratorShape:
    """The size of the encoder-decoder that generates semantic IDs."""

    embedding_dim: Positive
    num_heads: Positive
    head_dim: Positive
    attn_dim: Positive
    num_layers: Positive
    dropout: Dropout
    max_history: Positive
    encoder: Literal["bidirectional", "causal"]
