"""The one beam search: batched, no Python per beam, over a `PrefixTree` (every result exists) or over a `FullTree`.

With a random generator it samples without replacement instead, as stochastic beam search does (Kool et al. 2019, arXiv
1903.06059): each prefix keeps the largest of the Gumbel-perturbed log-probabilities of the leaves below it, and the
n_beams leaves with the largest are a sample of that many different leaves, in the order in which they were drawn.
"""

from collections.abc import Callable
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
    """The beams of each user, best first, or where they are sampled in the order in which they were drawn.

    Attributes:
        nodes: (batch, n_beams) int64, the trees' leaves.
        codes: (batch, n_beams, depth) int64.
        log_probs: (batch, n_beams); -inf marks beams that do not exist since the tree has fewer leaves.
    """

    nodes: Tensor
    codes: Tensor
    log_probs: Tensor


Shape = Callable[[Tensor], Tensor]


@torch.no_grad()
def beam_search(
    decoder: Decoder, tree: Tree, n_beams: int, shape: Shape | None = None, random: torch.Generator | None = None
) -> Beams:
    """The n_beams best leaves, as far as a beam search sees them; with n_beams >= the leaves it is exhaustive.

    The first step has one beam, since all would be equal. Log-probabilities are those of the whole level, not
    renormalised over the codes that exist, unless `shape` does so.

    Args:
        shape: what each step's log-probabilities (..., n_children) become, -inf where no code exists; those of a
            beam must sum to 1 for `random`.
        random: sample leaves without replacement.
    """
    log_probs = decoder.start()
    scores = log_probs.new_zeros(len(log_probs), 1)
    keys = scores  # what the beams are chosen by
    nodes = torch.zeros(scores.shape, dtype=torch.long, device=scores.device)
    parents, codes = nodes, nodes.new_zeros(*nodes.shape, 0)
    for depth in range(tree.depth):
        if depth > 0:
            log_probs = decoder.advance(parents, codes[..., -1])
        children, next_codes, exists = tree.children(depth, nodes)
        step = log_probs.gather(2, next_codes).masked_fill(~exists, -torch.inf)
        candidates = scores[..., None] + (step if shape is None else shape(step))
        candidate_keys = candidates if random is None else _perturbed(candidates, keys, random)
        keys, chosen = candidate_keys.flatten(1).topk(min(n_beams, candidates.shape[1:].numel()), dim=1)
        scores = keys if random is None else candidates.flatten(1).gather(1, chosen)
        parents = chosen // next_codes.shape[-1]
        nodes = children.flatten(1).gather(1, chosen)
        kept = codes.gather(1, parents[..., None].expand(-1, -1, depth))
        codes = torch.cat([kept, next_codes.flatten(1).gather(1, chosen)[..., None]], dim=2)
    return Beams(nodes, codes, scores)


def _perturbed(log_probs: Tensor, parents: Tensor, random: torch.Generator) -> Tensor:
    """Gumbel-perturbed log-probabilities of children whose largest is their parent's (the paper's appendix B.3).

    Args:
        log_probs: (batch, beams, n_children), of whole prefixes.
        parents: (batch, beams), the parents' perturbed log-probabilities.

    Returns:
        As `log_probs`; -inf where they are.
    """
    noise = torch.empty_like(log_probs).exponential_(generator=random).log()
    free = log_probs - noise
    below = free - free.amax(-1, keepdim=True)  # nan for a beam that does not exist
    excess = parents[..., None] - free + torch.log(-torch.expm1(below))
    bounded = parents[..., None] - excess.clamp_min(0) - torch.log1p(torch.exp(-excess.abs()))
    return bounded.masked_fill(log_probs == -torch.inf, -torch.inf)
