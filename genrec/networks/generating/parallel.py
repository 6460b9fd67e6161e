"""Parallel semantic IDs: an item is its digits alone, all of which are predicted at once (RPG: Hou et al. 2025,
arXiv 2506.05781), trained to rank items and not digits.

An item's vector is the mean of its digits' code vectors, at the input as at the output. So the mean over the digits of
the logits of an item's codes is the product of the state with the item's vector, and a softmax over items trains the
very order in which items are ranked; the digits' own normalisers are the same for all items and rank nothing.

Letters: b batch, t positions, m digits, k codes a digit, d dim.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.layers.history_cut import last_items
from genrec.layers.initialization import initialize_weights
from genrec.layers.item_ids import check_item_ids
from genrec.layers.kept_table import KeepsTable
from genrec.layers.tiles import score_in_tiles
from genrec.networks.sequential.causal import CausalTransformer, last_states
from genrec.networks.sequential.repeats import RepeatBias


class ParallelNetwork(KeepsTable):
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
        self.forget_table()

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
        """The state after the last item, (b, d); of a longer history the last max_history items are read.

        Raises:
            ValueError: the history holds what is no item_id.
        """
        check_item_ids(history, self.n_items)
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
        """(b, n_items + 1), column = item_id; padding is -inf. A row's bytes are the same in any batch."""
        items = self.kept_table(self.n_items + 1, self.item_vectors)

        def score(history: Tensor) -> Tensor:
            scores = self.user_vectors(history) @ items.T
            return scores if self.repeats is None else self.repeats.add_to(scores, history)

        scores = score_in_tiles(score, last_items(history, self.max_history), self.max_history)
        scores[:, 0] = -torch.inf
        return scores
