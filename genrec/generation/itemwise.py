"""Two axes (RQ-Transformer: Lee et al. 2022, arXiv 2203.01941): a trunk reads items, a small decoder the codes of one.

An item is one position, not one for each of its codes, so a history is a quarter as long; its vector is the sum of its
codes' vectors, and where items have vectors of their own (LIGER, arXiv 2411.18814) that one too. The trunk is causal:
one pass serves the target after every item. The decoder sees the history through the state after its last item alone.

Letters: b batch, t history items, n targets of a user, l levels of a semantic ID (code_length), c codes a level
(code_num). A token is a code of one level; token 0 is padding, which stands on the right.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.generation.generator import attend_one_step_further, first_step, inherited
from genrec.generation.t5 import EncoderBlock, RelativePositionBias
from genrec.layers.dropout import SharedDropout
from genrec.layers.initialization import initialize_weights


class ItemwiseGenerator(nn.Module):
    """T5's blocks on both axes; the tables of the trunk, the decoder and the output are not tied.

    Args:
        num_layers: of the trunk, and of the decoder.
        decoder_dropout: of the decoder, which learns from l times as many positions as the trunk.
        n_items: how many items have vectors of their own; 0 for none, and an item is the sum of its codes.
    """

    causal = True

    def __init__(
        self,
        code_num: int,
        code_length: int,
        embedding_dim: int,
        num_heads: int,
        head_dim: int,
        attn_dim: int,
        num_layers: int,
        dropout: float,
        decoder_dropout: float,
        n_items: int = 0,
    ) -> None:
        super().__init__()
        self.code_num = code_num
        self.code_length = code_length
        vocab_size = 1 + code_length * code_num
        sizes = (embedding_dim, num_heads, head_dim, attn_dim)
        self.dropout = SharedDropout(dropout)
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.item_embedding = nn.Embedding(n_items + 1, embedding_dim, padding_idx=0) if n_items else None
        self.input_norm = nn.RMSNorm(embedding_dim, eps=1e-6)
        self.position_bias = RelativePositionBias(num_heads, bidirectional=False)
        trunk = nn.ModuleList(EncoderBlock(*sizes, self.dropout) for _ in range(num_layers))
        self.trunk: Sequence[EncoderBlock] = trunk  # type: ignore[assignment]
        self.trunk_norm = nn.RMSNorm(embedding_dim, eps=1e-6)
        self.decoder_dropout = SharedDropout(decoder_dropout)
        self.decoder_embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.decoder_bias = RelativePositionBias(num_heads, bidirectional=False)
        self.level_vectors = nn.Parameter(torch.empty(code_length, embedding_dim))
        decoder = nn.ModuleList(EncoderBlock(*sizes, self.decoder_dropout) for _ in range(num_layers))
        self.decoder: Sequence[EncoderBlock] = decoder  # type: ignore[assignment]
        self.decoder_norm = nn.RMSNorm(embedding_dim, eps=1e-6)
        self.level_tables = nn.Parameter(torch.empty(code_length, code_num, embedding_dim))
        self.reset_parameters()

    @property
    def reads_items(self) -> bool:
        """Whether a history's tokens are to have the item_ids behind them."""
        return self.item_embedding is not None

    def reset_parameters(self) -> None:
        """All matrices and tables from N(0, 0.02)."""
        initialize_weights(self, "normal")
        nn.init.normal_(self.level_vectors, std=0.02)
        nn.init.normal_(self.level_tables, std=0.02)

    def forward(self, tokens: Tensor, target_tokens: Tensor) -> Tensor:
        """Logits of each level of each target, each level knowing the levels above it.

        Args:
            tokens: (b, t, l) int64 history; (b, t, l + 1) where items have vectors, the last is then the item_id.
            target_tokens: (b, n, l) int64; n = 1 is the item after the history, n = t the item after each of its items.

        Returns:
            (b, n, l, c).
        """
        return self.logits(self.read(tokens, target_tokens)[1])

    def read(self, tokens: Tensor, target_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The trunk's states (b, t, dim) and the decoder's under teacher forcing, (b, n, levels of the target, dim)."""
        memory = self.encode(tokens)
        states = memory if target_tokens.shape[1] == tokens.shape[1] else self.last_state(memory, tokens)
        return memory, self.decode(states, target_tokens)

    def encode(self, tokens: Tensor) -> Tensor:
        """The state after each item, (b, t, dim); those of padding mean nothing."""
        self.dropout.draw_anew()
        vectors = self.embedding(tokens[..., : self.code_length]).sum(2)
        if self.item_embedding is not None:
            vectors = vectors + self.item_embedding(tokens[..., self.code_length])
        x = self.dropout(self.input_norm(vectors))
        positions = torch.arange(x.shape[1], device=x.device)
        distance = positions - positions[:, None]
        bias = (self.position_bias(distance) + _hides_later(distance, x.dtype))[None]
        for block in self.trunk:
            x = block(x, bias)
        return self.trunk_norm(x)

    def last_state(self, memory: Tensor, tokens: Tensor) -> Tensor:
        """Of each user the state after the last item: (b, t, dim) to (b, 1, dim)."""
        last = (tokens[..., 0] != 0).sum(1) - 1
        return memory[torch.arange(len(memory), device=memory.device), last, None]

    def decode(self, states: Tensor, target_tokens: Tensor) -> Tensor:
        """The decoder's last states under teacher forcing, (b, n, levels, dim).

        Args:
            states: (b, n, dim), what precedes each target.
            target_tokens: (b, n, l) int64; with the first level alone, (b, n, 1), the states of that level.
        """
        self.decoder_dropout.draw_anew()
        codes = self.decoder_embedding(target_tokens[..., :-1])
        x = torch.cat([states[:, :, None], codes], dim=2) + self.level_vectors[: target_tokens.shape[2]]
        levels = torch.arange(x.shape[2], device=x.device)
        distance = levels - levels[:, None]
        bias = (self.decoder_bias(distance) + _hides_later(distance, self.level_vectors.dtype))[None]
        of_targets = self.decoder_dropout(x.flatten(0, 1))
        for block in self.decoder:
            of_targets = block(of_targets, bias)
        return self.decoder_dropout(self.decoder_norm(of_targets)).view_as(x)

    def logits(self, states: Tensor) -> Tensor:
        """Each state times the table of its own level: (b, n, l, dim) to (b, n, l, c)."""
        return torch.einsum("bnld,lcd->bnlc", states, self.level_tables)

    def item_loss(self, memory: Tensor, history: Tensor, target: Tensor, num_negatives: int) -> Tensor:
        """Cross-entropy of the targets' own vectors among uniform negatives, the mean over known targets.

        Args:
            memory: (b, t, dim), the trunk's states.
            history: (b, t) int64 item_ids, padded with 0 on the right.
            target: (b, n) int64 item_ids, 0 = none; n = 1 or t, as in `forward`.
            num_negatives: drawn anew each time, all different, for the whole batch; 0 takes all items.
        """
        assert self.item_embedding is not None
        states = memory if target.shape == history.shape else self.last_state(memory, history[..., None])
        states, target = states[target != 0], target[target != 0]
        n_items = self.item_embedding.num_embeddings - 1
        drawn = torch.randperm(n_items, device=memory.device)[: num_negatives or n_items] + 1
        # float: the target's logit beside thousands of others is too fine for bfloat16
        others = (states @ self.item_embedding(drawn).T).float().masked_fill(drawn == target[:, None], -torch.inf)
        own = (states * self.item_embedding(target)).sum(-1, keepdim=True).float()
        return F.cross_entropy(torch.cat([own, others], 1), torch.zeros_like(target))

    def beam_decoder(self, tokens: Tensor) -> "ItemwiseBeamDecoder":
        return ItemwiseBeamDecoder(self, tokens)


def _hides_later(distance: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where the distance, key - query, is not above 0, minus infinity where it is."""
    return torch.zeros(distance.shape, dtype=dtype, device=distance.device).masked_fill(distance > 0, -torch.inf)


class ItemwiseBeamDecoder:
    """`ItemwiseGenerator` as the `Decoder` of a beam search: the trunk runs once, and each step one level further."""

    def __init__(self, network: ItemwiseGenerator, tokens: Tensor) -> None:
        """tokens: as in `ItemwiseGenerator.forward`."""
        self.network = network
        self.state = network.last_state(network.encode(tokens), tokens)
        self.kept: list[list[Tensor]] = [[] for _ in network.decoder]
        self.step = 0

    def start(self) -> Tensor:
        return first_step(self._step, self.state, self.kept)

    def advance(self, parents: Tensor, codes: Tensor) -> Tensor:
        self.kept = inherited(self.kept, parents)
        return self._step(self.network.decoder_embedding(codes + (self.step - 1) * self.network.code_num + 1))

    def _step(self, x: Tensor) -> Tensor:
        """One level further for all beams: (b, beams, dim) to log-probabilities (b, beams, c)."""
        x = x + self.network.level_vectors[self.step]
        bias = self.network.decoder_bias(torch.arange(-self.step, 1, device=x.device)[None])[:, 0]  # (h, steps)
        for kept, block in zip(self.kept, self.network.decoder, strict=True):
            x = x + attend_one_step_further(block.attention, block.attention_norm(x), kept, bias)
            x = x + block.feed_forward(block.feed_forward_norm(x))
        logits = self.network.decoder_norm(x) @ self.network.level_tables[self.step].T
        self.step += 1
        return logits.log_softmax(-1)
