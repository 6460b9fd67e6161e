"""What the digits of parallel semantic IDs find: the best items of a catalogue of any size, and what digits know alone.

Letters: b batch, m digits, k codes a digit.
"""

from collections.abc import Iterator
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from genrec.codes.code_table import append_collision_codes
from genrec.generation.beam_search import beam_search
from genrec.generation.generated_items import GeneratedItems
from genrec.generation.prefix_tree import FullTree, PrefixTree, build_prefix_tree
from genrec.layers.finite import check_ordered
from genrec.layers.history_cut import last_items
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.retrieval.ranks import top_items

CHUNK_ITEMS = 2**14  # of a catalogue that is ranked piece by piece
BEAM_ROWS = 2**12  # users times beams of one search


@torch.no_grad()
def best_items(network: ParallelNetwork, history: Tensor, k: int) -> GeneratedItems:
    """The k items of the highest scores, in memory that does not grow with the catalogue.

    Every item is ranked; of equal scores the lower item_id stands first. `log_probs` are up to a constant of the user.
    """
    found = GeneratedItems(history.new_zeros(len(history), 0), network.log_scale.new_zeros(len(history), 0))
    for first, scores in _scores_in_parts(network, history):
        if first == 0:
            scores[:, 0] = -torch.inf
        found = _merged(found, first, scores, k)
    missing = k - found.items.shape[1]
    return GeneratedItems(F.pad(found.items, (0, missing)), F.pad(found.log_probs, (0, missing), value=-torch.inf))


def _scores_in_parts(network: ParallelNetwork, history: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The first item of a part of the catalogue, and the scores of that part, (b, n_part)."""
    users, history = network.user_vectors(history), last_items(history, network.max_history)
    bias = None if network.repeats is None else network.repeats.at_places(history)
    for items in torch.arange(network.n_items + 1, device=history.device).split(CHUNK_ITEMS):
        scores = users @ network.item_vectors(items).T
        first = int(items[0])
        if bias is not None:
            is_inside = (history >= first) & (history < first + len(items))
            places = (history - first).clamp(0, len(items) - 1)
            scores = scores.scatter_add(1, places, bias.masked_fill(~is_inside, 0).to(scores.dtype))
        yield first, scores


def _merged(found: GeneratedItems, first: int, scores: Tensor, k: int) -> GeneratedItems:
    """The k best of those found so far and of the items first, first + 1, ..., whose ids are all higher."""
    part = top_items(F.pad(scores, (1, 0)), k)  # 1, 2, ... in the part; 0 where it is smaller
    part_scores = F.pad(scores, (1, 0), value=-torch.inf).gather(1, part)
    items = torch.cat([found.items, (part + first - 1).masked_fill(part == 0, 0)], dim=1)
    best, order = torch.cat([found.log_probs, part_scores], dim=1).sort(dim=1, descending=True, stable=True)
    return GeneratedItems(items.gather(1, order[:, :k]), best[:, :k])


class DigitSearch:
    """A beam search by the digits' own probabilities, one digit after another.

    No digit knows of the others, nor of repeats: this is what the digits alone are worth beside item scores.
    """

    def __init__(self, network: ParallelNetwork) -> None:
        self.network = network

    @torch.no_grad()
    def generate(self, history: Tensor, n_beams: int, constrained: bool = True) -> GeneratedItems:
        """The items that the search finds.

        Args:
            history: (b, t) int64 item_ids.
            constrained: to digits of items; else some beams are none.

        Raises:
            UserError: the network's outputs are NaN.
        """
        n_users = max(BEAM_ROWS // n_beams, 1)
        found = [self._generate(part, n_beams, constrained) for part in history.split(n_users)]
        log_probs = torch.cat([part.log_probs for part in found])
        check_ordered(log_probs, "log-probabilities of beams")
        return GeneratedItems(torch.cat([part.items for part in found]), log_probs)

    def _generate(self, history: Tensor, n_beams: int, constrained: bool) -> GeneratedItems:
        network, tree = self.network, self.prefix_tree
        decoder = DigitDecoder(network.digit_logits(network.user_vectors(history)).log_softmax(-1))
        if constrained:
            beams = beam_search(decoder, tree, n_beams)
            items = tree.items[beams.nodes].masked_fill(beams.log_probs == -torch.inf, 0)
        else:
            beams = beam_search(decoder, FullTree(network.code_num, network.num_digits), n_beams)
            # of items that share all digits the first
            items = tree.find(F.pad(beams.codes, (0, 1)))
        return GeneratedItems(items, beams.log_probs)

    @cached_property
    def prefix_tree(self) -> PrefixTree:
        """Of the digits and a collision code, by which items that share all digits differ."""
        rows = F.pad(append_collision_codes(self.network.digits[1:]), (0, 0, 1, 0), value=-1)
        return build_prefix_tree(rows)


class DigitDecoder:
    """What a beam search asks of digits that were all predicted at once; a collision code behind them is free.

    Args:
        log_probs: (b, m, k).
    """

    def __init__(self, log_probs: Tensor) -> None:
        self.log_probs = log_probs
        self.digit = 0

    def start(self) -> Tensor:
        return self.log_probs[:, :1]

    def advance(self, parents: Tensor, codes: Tensor) -> Tensor:
        self.digit += 1
        if self.digit == self.log_probs.shape[1]:
            return self.log_probs.new_zeros(()).expand(*parents.shape, self.log_probs.shape[2])
        return self.log_probs[:, self.digit, None].expand(-1, parents.shape[1], -1)
