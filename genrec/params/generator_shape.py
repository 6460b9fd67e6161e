"""What TIGER and ETEGRec share."""

from typing import Literal

from genrec.params.types import Dropout, Positive, Switch, nested


@nested
class GeneratorShape:
    """The network that generates semantic IDs."""

    embedding_dim: Positive
    num_heads: Positive
    head_dim: Positive
    attn_dim: Positive
    num_layers: Positive
    dropout: Dropout
    max_history: Positive
    encoder: Literal["bidirectional", "causal", "items"]
    decoder_dropout: Dropout
    learns_repeats: Switch
