"""The one beam search: batched, no Python per beam, over a `PrefixTree` (every result exists) or over a `FullTree`."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Tree(Protocol):
    """What the search needs of `PrefixTree` and `FullTree`."""

    @property
    def depth(self) -> int: ...

    def children(self, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...


class Decoder(Protocol):
    """A decoder that remembers its beams' prefixes."""

    def start(self) -> Tensor:
        """Log-probabilities of the first codes, (batch, 1, code_num)."""
        ...

    def advance(self, parents: Tensor, codes: Tensor) -> Tensor:
        """Continue beam `parents` by `codes`, both (batch, beams) int64; (batch, beams, code_num) log-probabilities."""
        ...


class Beams(NamedTuple):
    """The beams of each user, best first.

    Attributes:
        nodes: (batch, n_beams) int64, the trees' leaves.
        codes: (batch, n_beams, depth) int64.
        log_probs: (batch, n_beams); -inf marks beams that do not exist since the tree has fewer leaves.
    """

    nodes: Tensor
    codes: Tensor
    log_probs: Tensor


@torch.no_grad()
def beam_search(decoder: Decoder, tree: Tree, n_beams: int) -> Beams:
    """The n_beams best leaves, as far as a beam search sees them; with n_beams >= the leaves it is exhaustive.

    The first step has one beam, since all would be equal; log-probabilities are those of the whole level, not
    renormalised over the codes that exist.
    """
    log_probs = decoder.start()
    scores = log_probs.new_zeros(len(log_probs), 1)
    nodes = torch.zeros(scores.shape, dtype=torch.long, device=scores.device)
    parents, codes = nodes, nodes.new_zeros(*nodes.shape, 0)
    for depth in range(tree.depth):
        if depth > 0:
            log_probs = decoder.advance(parents, codes[..., -1])
        children, next_codes, exists = tree.children(depth, nodes)
        candidates = scores[..., None] + log_probs.gather(2, next_codes)
        candidates = candidates.masked_fill(~exists, -torch.inf).flatten(1)
        scores, chosen = candidates.topk(min(n_beams, candidates.shape[1]), dim=1)
        parents = chosen // next_codes.shape[-1]
        nodes = children.flatten(1).gather(1, chosen)
        kept = codes.gather(1, parents[..., None].expand(-1, -1, depth))
        codes = torch.cat([kept, next_codes.flatten(1).gather(1, chosen)[..., None]], dim=2)
    return Beams(nodes, codes, scores)
