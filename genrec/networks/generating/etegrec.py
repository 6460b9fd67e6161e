"""ETEGRec (Liu et al., SIGIR 2025, arXiv 2409.05546): a tokenizer and a recommender that speak to each other.

z (item embedding) -> RQ-VAE ---- codes ---> code table ---> tokens -> encoder-decoder -> codes of the next item
                         ^                                                 |        |
                         |  sequence adapter: into the latent space  <--- pooled states |
                         |  preference adapter: into the embeddings' space  <---- first decoder state
"""

from typing import Any

import torch
from torch import Tensor, nn

from genrec.codes.code_table import build_code_table
from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.codes.tokenizer.vqvae_loss import VQVAELoss
from genrec.generation.generated_items import GeneratedItems
from genrec.generation.item_generator import build_item_generator
from genrec.generation.running_sum import running_sum
from genrec.layers.history_cut import last_items
from genrec.layers.initialization import initialize_weights
from genrec.storage.checkpoint import network_arguments


class ETEGRecNetwork(nn.Module):
    """Both modules, the item embeddings that the tokenizer reads, and the code table that follows from them.

    Args:
        tokenizer: the constructor's arguments of the `RqVae`, which is pre-trained (`start_from`).
        max_history: how many items a history may have; who builds batches cuts them.
        alpha: the weight of the quantizer's losses within the tokenizer's.
        causal, itemwise, decoder_dropout, learns_repeats: see `build_item_generator`.
    """

    def __init__(
        self,
        n_items: int,
        tokenizer: dict[str, Any],
        embedding_dim: int = 128,
        num_heads: int = 4,
        head_dim: int = 64,
        attn_dim: int = 512,
        num_layers: int = 6,
        dropout: float = 0.1,
        max_history: int = 50,
        causal: bool = False,
        alpha: float = 1.0,
        *,
        itemwise: bool = False,
        decoder_dropout: float = 0.1,
        learns_repeats: bool = False,
    ) -> None:
        super().__init__()
        self.max_history = max_history
        self.vqvae_loss = VQVAELoss(alpha, alpha)
        self.tokenizer = RqVaeNetwork(**network_arguments(RqVaeNetwork, tokenizer))
        semantic_dim, quantizer = tokenizer["input_dim"], self.tokenizer.quantizer
        self.generator = build_item_generator(
            n_items,
            code_num=quantizer.num_embeddings,
            code_length=len(quantizer.levels) + 1,
            embedding_dim=embedding_dim,
            num_heads=num_heads,
            head_dim=head_dim,
            attn_dim=attn_dim,
            num_layers=num_layers,
            dropout=dropout,
            max_history=max_history,
            causal=causal,
            itemwise=itemwise,
            decoder_dropout=decoder_dropout,
            learns_repeats=learns_repeats,
        )
        self.sequence_adapter = nn.Linear(embedding_dim, quantizer.levels[0].embedding_dim)
        self.preference_adapter = nn.Linear(embedding_dim, semantic_dim)
        for adapter in (self.sequence_adapter, self.preference_adapter):
            initialize_weights(adapter, "normal")
        # a buffer, not a parameter: no optimizer's weight decay may move it
        self.item_embeddings: Tensor
        self.register_buffer("item_embeddings", torch.zeros(n_items + 1, semantic_dim))

    def start_from(self, tokenizer: RqVaeNetwork, item_embeddings: Tensor) -> None:
        """Take the pre-trained tokenizer's weights and the embeddings (n_items + 1, dim); code all items."""
        self.tokenizer.load_state_dict(tokenizer.state_dict(), strict=True)
        self.item_embeddings = item_embeddings.to(self.item_embeddings)
        self.rebuild_code_table()

    def rebuild_code_table(self) -> None:
        """Code all items with the tokenizer as it is."""
        codes = self.tokenizer.semantic_codes(self.item_embeddings[1:])
        self.generator.set_code_table(build_code_table(codes, self.generator.network.code_num))

    def forward(self, history: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The recommender under teacher forcing.

        Args:
            history, target: as in `ItemGenerator.forward`; n targets of each history.

        Returns:
            logits (batch, n, code_length, code_num); the pooled sequence in the tokenizer's latent space, (batch, n,
            latent_dim); the preference in the item embeddings' space, (batch, n, semantic_dim).
        """
        memory, states, logits = self.generator.read(history, target)
        return logits, self._sequence(memory, history, target), self.preference_adapter(states[:, :, 0])

    def projections(self, history: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The second and third of `forward`'s answers, for which the decoder needs to run for the first level only."""
        tokens = self.generator.tokens
        memory, states = self.generator.network.read(tokens[history], tokens[target][..., :1])
        return self._sequence(memory, history, target), self.preference_adapter(states[:, :, 0])

    def _sequence(self, memory: Tensor, history: Tensor, target: Tensor) -> Tensor:
        """The projection of what precedes each target, (batch, n, latent_dim)."""
        pooled = self._pool(memory, history)
        if pooled.shape[1] != target.shape[1]:  # causal, one target behind each history
            last = (history != 0).sum(1) - 1
            pooled = pooled[torch.arange(len(history), device=last.device), last, None]
        return self.sequence_adapter(pooled)

    def _pool(self, memory: Tensor, history: Tensor) -> Tensor:
        """The mean of the encoder's states, (batch, 1, dim), or up to each item, (batch, length, dim), if causal."""
        of_items = memory.unflatten(1, (history.shape[1], -1)).mean(2)
        real = (history != 0)[..., None]
        if self.generator.network.causal:
            return running_sum(of_items, 1) / torch.arange(1, history.shape[1] + 1, device=memory.device)[:, None]
        return (of_items * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)

    def generate(self, history: Tensor, n_beams: int, constrained: bool = True) -> GeneratedItems:
        """Ranked items after each history (batch, length), its last max_history items; see `ItemGenerator.generate`."""
        return self.generator.generate(last_items(history, self.max_history), n_beams, constrained)

    def recommender_modules(self) -> list[nn.Module]:
        return [self.generator, self.sequence_adapter, self.preference_adapter]
