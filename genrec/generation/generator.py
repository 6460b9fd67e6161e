"""The encoder-decoder that reads a history's tokens and generates the codes of the next item (TIGER, arXiv 2305.05065).

Letters: b batch, t history items, n targets of a user, l levels of a semantic ID (code_length), c codes a level
(code_num). A token is a code of one level; token 0 is padding, which stands on the right.

Two encoders:

    bidirectional   as in T5: a state knows the whole history, so a history serves one target, the next item (n = 1)
    causal          a state knows only what came before, so one pass serves the target after every item (n = t);
                    the decoder's cross-attention then gets a bias by how many items ago a memory stands
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from genrec.generation.t5 import DecoderBlock, EncoderBlock, RelativePositionBias, SelfAttention
from genrec.layers.dropout import SharedDropout
from genrec.layers.initialization import initialize_weights

FEWEST_ROWS = 4  # of a matrix product whose rows are the same bytes among any others


class SemanticIdGenerator(nn.Module):
    """T5 with one table of codes a level, which is the encoder's input, the decoder's input and the output head."""

    reads_items = False

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
        causal: bool,
    ) -> None:
        super().__init__()
        self.code_num = code_num
        self.code_length = code_length
        self.causal = causal
        self.embedding = nn.Embedding(1 + code_length * code_num, embedding_dim, padding_idx=0)
        self.start_vector = nn.Parameter(torch.empty(embedding_dim))
        self.dropout = SharedDropout(dropout)
        sizes = (embedding_dim, num_heads, head_dim, attn_dim, self.dropout)
        self.encoder_bias = RelativePositionBias(num_heads, bidirectional=not causal)
        encoder = nn.ModuleList(EncoderBlock(*sizes) for _ in range(num_layers))
        self.encoder: Sequence[EncoderBlock] = encoder  # type: ignore[assignment]
        self.encoder_norm = nn.RMSNorm(embedding_dim, eps=1e-6)
        self.decoder_bias = RelativePositionBias(num_heads, bidirectional=False)
        if causal:
            self.memory_bias = RelativePositionBias(num_heads, bidirectional=False)
        decoder = nn.ModuleList(DecoderBlock(*sizes) for _ in range(num_layers))
        self.decoder: Sequence[DecoderBlock] = decoder  # type: ignore[assignment]
        self.decoder_norm = nn.RMSNorm(embedding_dim, eps=1e-6)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All matrices and tables from N(0, 0.02), as ETEGRec's authors draw them."""
        initialize_weights(self, "normal")
        nn.init.normal_(self.start_vector, std=0.02)

    def forward(self, tokens: Tensor, target_tokens: Tensor) -> Tensor:
        """Logits of each level of each target, each level knowing the levels above it.

        Args:
            tokens: (b, t, l) int64 history.
            target_tokens: (b, n, l) int64; n = 1 is the item after the history, n = t (causal only) the item after
                each of its items.

        Returns:
            (b, n, l, c).
        """
        return self.logits(self.read(tokens, target_tokens)[1])

    def read(self, tokens: Tensor, target_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's states (b, t * l, dim) and the decoder's under teacher forcing, (b, n, levels, dim)."""
        memory = self.encode(tokens)
        return memory, self.decode(memory, self.bias_of_memory(tokens, target_tokens), target_tokens)

    def encode(self, tokens: Tensor) -> Tensor:
        """The encoder's last states, (b, t * l, dim); those of padding mean nothing."""
        self.dropout.draw_anew()
        x = self.dropout(self.embedding(tokens.flatten(1)))
        positions = torch.arange(x.shape[1], device=x.device)
        bias = self.encoder_bias(positions - positions[:, None])[None]  # (1, h, k, k): the fused kernels ask for four
        if self.causal:
            # padding stands behind everything real, so causality hides it too
            bias = bias + _minus_infinity(positions > positions[:, None], x.dtype)
        elif bool((tokens == 0).any()):
            bias = bias + _minus_infinity(tokens.flatten(1) == 0, x.dtype)[:, None, None]
        for block in self.encoder:
            x = block(x, bias)
        return self.dropout(self.encoder_norm(x))

    def bias_of_memory(self, tokens: Tensor, target_tokens: Tensor) -> Tensor | None:
        """What the decoder may look at, and how far away it is; broadcastable to (b, h, n * l, t * l).

        None where all is seen: a bidirectional encoder's output without padding.
        """
        n_items, n_targets, dtype = tokens.shape[1], target_tokens.shape[1], self.start_vector.dtype
        if not self.causal:
            if n_targets != 1:
                raise ValueError(f"a bidirectional encoder sees the whole history: it serves 1 target, got {n_targets}")
            padding = tokens.flatten(1) == 0
            return _minus_infinity(padding, dtype)[:, None, None] if bool(padding.any()) else None
        items = torch.arange(n_items, device=tokens.device)
        if n_targets == n_items:
            last_known = items.expand(1, n_items)
        else:
            last_known = (tokens[..., 0] != 0).sum(1, keepdim=True) - 1
        distance = items - last_known[..., None]  # (b or 1, n, t): 0 is the last known item, above 0 the future
        bias = self.memory_bias(distance) + _minus_infinity(distance > 0, dtype)[:, None]
        return bias.repeat_interleave(target_tokens.shape[2], dim=2).repeat_interleave(self.code_length, dim=3)

    def decode(self, memory: Tensor, memory_bias: Tensor | None, target_tokens: Tensor) -> Tensor:
        """The decoder's last states under teacher forcing, (b, n, l, dim).

        Args:
            memory: (b, t * l, dim) from `encode`.
            memory_bias: from `bias_of_memory`.
            target_tokens: (b, n, l) int64; with the first level alone, (b, n, 1), the states of that level.
        """
        self.dropout.draw_anew()
        start = self.start_vector.expand(*target_tokens.shape[:2], 1, -1)
        x = self.dropout(torch.cat([start, self.embedding(target_tokens[..., :-1])], dim=2))
        levels = torch.arange(x.shape[2], device=x.device)
        distance = levels - levels[:, None]
        bias = (self.decoder_bias(distance) + _minus_infinity(distance > 0, x.dtype))[None]
        for block in self.decoder:
            x = block(x, bias, block.cross_attention.project(memory), memory_bias)
        return self.dropout(self.decoder_norm(x))

    def logits(self, states: Tensor) -> Tensor:
        """Each state times the table of its own level: (b, n, l, dim) to (b, n, l, c)."""
        return torch.einsum("bnld,lcd->bnlc", states, self.level_tables)

    def beam_decoder(self, tokens: Tensor) -> "BeamDecoder":
        return BeamDecoder(self, tokens)

    @property
    def level_tables(self) -> Tensor:
        """The vectors of the codes, (l, c, dim): a view of the embedding without its padding row."""
        return self.embedding.weight[1:].view(self.code_length, self.code_num, -1)


def _minus_infinity(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where something is seen, minus infinity where it is hidden."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(hidden, -torch.inf)


class BeamDecoder:
    """`SemanticIdGenerator` as the `Decoder` of a beam search.

    A user's encoder output is projected to keys and values once; the beams are further queries to it. Self-attention
    keeps the keys and values of each step, (b, beams, 2, h, d) a layer; when beams are chosen they inherit their
    parents' rows. The first step, the same for all beams, is kept once.
    """

    def __init__(self, network: SemanticIdGenerator, tokens: Tensor) -> None:
        """tokens: (b, t, l) int64 history."""
        self.network = network
        memory = network.encode(tokens)
        self.memory = [block.cross_attention.project(memory) for block in network.decoder]
        bias = network.bias_of_memory(tokens, tokens[:, :1])
        # each of the l queries of a target has the same bias, and so has each beam
        self.memory_bias = None if bias is None else bias[:, :, :1]
        self.kept: list[list[Tensor]] = [[] for _ in network.decoder]
        self.step = 0

    def start(self) -> Tensor:
        batch = len(self.memory[0][0])
        return first_step(self._step, self.network.start_vector.expand(batch, 1, -1), self.kept)

    def advance(self, parents: Tensor, codes: Tensor) -> Tensor:
        self.kept = inherited(self.kept, parents)
        tokens = codes + (self.step - 1) * self.network.code_num + 1
        return self._step(self.network.embedding(tokens))

    def _step(self, x: Tensor) -> Tensor:
        """One position further for all beams: (b, beams, dim) to log-probabilities (b, beams, c)."""
        distance = torch.arange(-self.step, 1, device=x.device)
        bias = self.network.decoder_bias(distance[None])[:, 0]  # (h, steps)
        for kept, memory, block in zip(self.kept, self.memory, self.network.decoder, strict=True):
            x = x + attend_one_step_further(block.attention, block.attention_norm(x), kept, bias)
            x = block.read_memory(x, memory, self.memory_bias)
        logits = self.network.decoder_norm(x) @ self.network.level_tables[self.step].T
        self.step += 1
        return logits.log_softmax(-1)


def first_step(step: Callable[[Tensor], Tensor], x: Tensor, kept: list[list[Tensor]]) -> Tensor:
    """A step of one beam a user as one of several equal ones: products of fewer rows add up in another order.

    Args:
        x: (b, 1, dim).
        kept: of each layer what the step remembers, a beam of which stays.

    Returns:
        (b, 1, c).
    """
    log_probs = step(x.expand(-1, FEWEST_ROWS, -1))
    for of_layer in kept:
        of_layer[:] = [one[:, :1] for one in of_layer]
    return log_probs[:, :1]


def attend_one_step_further(attention: SelfAttention, x: Tensor, kept: list[Tensor], bias: Tensor) -> Tensor:
    """Self-attention of each beam's newest position, whose key and value `kept` takes up: (b, beams, dim) to the same.

    Args:
        kept, bias: as in `attend_to_own_past`, the newest step included in the bias.
    """
    projected = attention.query_key_value(x).unflatten(-1, (3, attention.num_heads, -1))
    kept.append(projected[:, :, 1:])
    return attention.output(attend_to_own_past(projected[:, :, 0], kept, bias).flatten(2))


def attend_to_own_past(query: Tensor, kept: list[Tensor], bias: Tensor) -> Tensor:
    """`attend` where each query has a few keys of its own: products element by element, since matrices would be tiny.

    Args:
        query: (b, beams, h, d).
        kept: of each step the keys and values, (b, beams or 1, 2, h, d).
        bias: (h, steps).

    Returns:
        (b, beams, h, d).
    """
    scores = torch.stack([(query * one[:, :, 0]).sum(-1) for one in kept], dim=-1) + bias
    shares = scores.softmax(-1)[..., None].unbind(-2)
    attended = shares[0] * kept[0][:, :, 1]
    for share, one in zip(shares[1:], kept[1:], strict=True):
        attended = torch.addcmul(attended, share, one[:, :, 1])
    return attended


def inherited(kept: list[list[Tensor]], parents: Tensor) -> list[list[Tensor]]:
    """Of each layer what the chosen beams remember of each step; the first step is the same for all, and kept once."""
    return [[first, *(_pick_beams(one, parents) for one in later)] for first, *later in kept]


def _pick_beams(kept: Tensor, parents: Tensor) -> Tensor:
    """(b, old beams, ...) to (b, beams, ...): each beam inherits its parent's row."""
    n_old = kept.shape[1]
    rows = parents + torch.arange(len(kept), device=kept.device)[:, None] * n_old
    return kept.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, parents.shape)
