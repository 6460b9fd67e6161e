"""Parallel semantic IDs: an item is its digits alone, all of which are predicted at once (RPG: Hou et al. 2025,
arXiv 2506.05781), trained to rank items and not digits.

An item's vector is the mean of its digits' code vectors, at the input as at the output. So the mean over the digits of
the logits of an item's codes is the product of the state with the item's vector, and a softmax over items trains the
very order in which items are ranked; the digits' own normalisers are the same for all items and rank nothing.

Letters: b batch, t positions, m digits, k codes a digit, d dim.
"""

import math
from collections.abc import Iterator
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.codes.code_table import append_collision_codes
from genrec.generation.beam_search import beam_search
from genrec.generation.generated_items import GeneratedItems
from genrec.generation.prefix_tree import FullTree, PrefixTree, build_prefix_tree
from genrec.layers.history_cut import last_items
from genrec.layers.initialization import initialize_weights
from genrec.networks.sequential.causal import CausalTransformer, last_states
from genrec.networks.sequential.repeats import RepeatBias
from genrec.retrieval.ranks import top_items

CHUNK_ITEMS = 2**14  # of a catalogue that is ranked piece by piece
BEAM_ROWS = 2**12  # users times beams of one search


class ParallelNetwork(nn.Module):
    """Scores of all items, and logits of all digits, after each position.

    Args:
        num_digits, code_num: of the table of digits that `set_digits` takes.
        learns_repeats: whether items of the history have a learned bias.
    """

    digits: Tensor

    def __init__(
        self,
        n_items: int,
        num_digits: int,
        code_num: int = 256,
        embedding_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.5,
        max_history: int = 50,
        *,
        learns_repeats: bool = True,
    ) -> None:
        super().__init__()
        self.n_items = n_items
        self.num_digits = num_digits
        self.code_num = code_num
        self.max_history = max_history
        self.register_buffer("digits", torch.full((n_items + 1, num_digits), -1, dtype=torch.int32))
        self.codebooks = nn.Parameter(torch.empty(num_digits * code_num, embedding_dim))
        self.log_scale = nn.Parameter(torch.zeros(()))
        # a digit alone knows less than all together: its logits have a scale of their own
        self.log_digit_scale = nn.Parameter(torch.tensor(-0.5 * math.log(num_digits)))
        self.transformer = CausalTransformer(
            embedding_dim, num_layers, num_heads, dropout, max_history, input_norm=True
        )
        self.repeats = RepeatBias(max_history) if learns_repeats else None
        self._table: Tensor | None = None
        self._tree: tuple[Tensor, PrefixTree] | None = None
        initialize_weights(self, "normal")
        # a mean of m vectors is as long as one of SASRec's
        nn.init.normal_(self.codebooks, std=0.02 * num_digits**0.5)

    def set_digits(self, digits: Tensor) -> None:
        """What the items are made of: (n_items + 1, m) int, codes 0..k-1, row 0 = -1; saved with the weights."""
        if digits.shape != self.digits.shape or int(digits.max()) >= self.code_num:
            raise ValueError(
                f"digits must be {tuple(self.digits.shape)} of codes below {self.code_num}, got {tuple(digits.shape)} "
                f"and {int(digits.max())}"
            )
        self.digits.copy_(digits)
        self._table = None

    def item_vectors(self, items: Tensor) -> Tensor:
        """The mean of the code vectors of each item: item_ids of any shape to (..., d), zero for padding."""
        flat = items.flatten()
        rows = self.digits[flat].long() + torch.arange(self.num_digits, device=items.device) * self.code_num
        is_item = (flat != 0).to(self.codebooks.dtype)
        vectors = F.embedding_bag(rows.clamp_min(0), self.codebooks, mode="mean") * is_item[:, None]
        return vectors.unflatten(0, items.shape)

    def forward(self, history: Tensor) -> Tensor:
        """The state after each item, (b, t, d), scaled for products with vectors; `history` as in SASRec."""
        return self.transformer(history, self.item_vectors) * self.log_scale.exp()

    def user_vectors(self, history: Tensor) -> Tensor:
        """The state after the last item, (b, d); of a longer history the last max_history items are read."""
        history = last_items(history, self.max_history)
        return last_states(self(history), history)

    def digit_logits(self, states: Tensor) -> Tensor:
        """(..., m, k): of the codes of each digit of the next item."""
        return self.logits_of_digits(states, torch.arange(self.num_digits, device=states.device))

    def logits_of_digits(self, states: Tensor, digits: Tensor) -> Tensor:
        """As `digit_logits`, of some digits alone: digits (n,) int64 to (..., n, k)."""
        codebooks = self.codebooks.view(self.num_digits, self.code_num, -1)[digits].flatten(0, 1)
        logits = (states @ codebooks.T).unflatten(-1, (len(digits), self.code_num))
        return logits * self.log_digit_scale.exp()

    def scores(self, history: Tensor) -> Tensor:
        """(b, n_items + 1), column = item_id; padding is -inf."""
        scores = self.user_vectors(history) @ self._item_table().T
        if self.repeats is not None:
            scores = self.repeats.add_to(scores, last_items(history, self.max_history))
        scores[:, 0] = -torch.inf
        return scores

    def train(self, mode: bool = True) -> Self:
        """As every module's; the vectors that were kept for evaluation are forgotten."""
        self._table = None
        return super().train(mode)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._table = None
        super()._load_from_state_dict(*arguments, **options)

    def _apply(self, *arguments: Any, **options: Any) -> Self:
        self._table = None
        return super()._apply(*arguments, **options)

    def _item_table(self) -> Tensor:
        """(n_items + 1, d), the vectors of all items; kept in eval mode until it ends, or weights or digits are loaded.

        Not until torch counts a change: a fused optimizer raises no count, and in inference mode there is none.
        """
        items = torch.arange(self.n_items + 1, device=self.digits.device)
        if self.training or torch.is_grad_enabled():
            return self.item_vectors(items)
        if self._table is None:
            self._table = torch.cat([self.item_vectors(part) for part in items.split(CHUNK_ITEMS)])
        return self._table

    @torch.no_grad()
    def best_items(self, history: Tensor, k: int) -> GeneratedItems:
        """The k items of the highest scores, in memory that does not grow with the catalogue.

        Every item is ranked; of equal scores the lower item_id stands first. `log_probs` are up to a constant of the
        user.
        """
        found = GeneratedItems(history.new_zeros(len(history), 0), self.log_scale.new_zeros(len(history), 0))
        for first, scores in self._scores_in_parts(history):
            if first == 0:
                scores[:, 0] = -torch.inf
            found = _merged(found, first, scores, k)
        missing = k - found.items.shape[1]
        return GeneratedItems(F.pad(found.items, (0, missing)), F.pad(found.log_probs, (0, missing), value=-torch.inf))

    def _scores_in_parts(self, history: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The first item of a part of the catalogue, and the scores of that part, (b, n_part)."""
        users, history = self.user_vectors(history), last_items(history, self.max_history)
        bias = None if self.repeats is None else self.repeats.at_places(history)
        for items in torch.arange(self.n_items + 1, device=history.device).split(CHUNK_ITEMS):
            scores = users @ self.item_vectors(items).T
            first = int(items[0])
            if bias is not None:
                is_inside = (history >= first) & (history < first + len(items))
                places = (history - first).clamp(0, len(items) - 1)
                scores = scores.scatter_add(1, places, bias.masked_fill(~is_inside, 0).to(scores.dtype))
            yield first, scores

    @torch.no_grad()
    def generate(self, history: Tensor, n_beams: int, constrained: bool = True) -> GeneratedItems:
        """The items that a beam search finds by the digits' own probabilities, one digit after another.

        No digit knows of the others, nor of repeats: this is what the digits alone are worth beside item scores.

        Args:
            history: (b, t) int64 item_ids.
            constrained: to digits of items; else some beams are none.
        """
        n_users = max(BEAM_ROWS // n_beams, 1)
        found = [self._generate(part, n_beams, constrained) for part in history.split(n_users)]
        return GeneratedItems(torch.cat([part.items for part in found]), torch.cat([part.log_probs for part in found]))

    def _generate(self, history: Tensor, n_beams: int, constrained: bool) -> GeneratedItems:
        decoder = DigitDecoder(self.digit_logits(self.user_vectors(history)).log_softmax(-1))
        if constrained:
            beams = beam_search(decoder, self.prefix_tree, n_beams)
            items = self.prefix_tree.items[beams.nodes].masked_fill(beams.log_probs == -torch.inf, 0)
        else:
            beams = beam_search(decoder, FullTree(self.code_num, self.num_digits), n_beams)
            # of items that share all digits the first
            items = self.prefix_tree.find(F.pad(beams.codes, (0, 1)))
        return GeneratedItems(items, beams.log_probs)

    @property
    def prefix_tree(self) -> PrefixTree:
        """Of the digits and a collision code, by which items that share all digits differ."""
        if self._tree is None or not torch.equal(self._tree[0], self.digits):
            digits = self.digits.clone()
            rows = F.pad(append_collision_codes(digits[1:]), (0, 0, 1, 0), value=-1)
            self._tree = digits, build_prefix_tree(rows)
        return self._tree[1]


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


def _merged(found: GeneratedItems, first: int, scores: Tensor, k: int) -> GeneratedItems:
    """The k best of those found so far and of the items first, first + 1, ..., whose ids are all higher."""
    part = top_items(F.pad(scores, (1, 0)), k)  # 1, 2, ... in the part; 0 where it is smaller
    part_scores = F.pad(scores, (1, 0), value=-torch.inf).gather(1, part)
    items = torch.cat([found.items, (part + first - 1).masked_fill(part == 0, 0)], dim=1)
    best, order = torch.cat([found.log_probs, part_scores], dim=1).sort(dim=1, descending=True, stable=True)
    return GeneratedItems(items.gather(1, order[:, :k]), best[:, :k])
