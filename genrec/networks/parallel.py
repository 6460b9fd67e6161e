"""Parallel semantic IDs: an item is its digits alone, all of which are predicted at once (RPG: Hou et al. 2025,
arXiv 2506.05781), trained to rank items and not digits.

An item's vector is the mean of its digits' code vectors, at the input as at the output. So the mean over the digits of
the logits of an item's codes is the product of the state with the item's vector, and a softmax over items trains the
very order in which items are ranked; the digits' own normalisers are the same for all items and rank nothing.

Letters: b batch, t positions, m digits, k codes a digit, d dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.modules.initialization import initialize_weights
from genrec.networks.causal_transformer import CausalTransformer, last_states
from genrec.networks.item_softmax import ItemSoftmax
from genrec.networks.repeats import RepeatBias

CHUNK_ITEMS = 2**14  # of a catalogue that is ranked piece by piece


class ParallelSemanticId(nn.Module):
    """Scores of all items, and logits of all digits, after each position.

    Args:
        digits: (n_items + 1, m) int, the codes 0..k-1 of each item, row 0 (padding) = -1.
        num_negatives: of the loss over items; 0 takes all items.
        digit_loss_weight: of the digits' cross-entropy beside the loss over items.
        num_trained_digits: how many of them, drawn anew each step, that loss is measured on; all would cost as much as
            the rest of the step.
        learns_repeats: whether items of the history have a learned bias.
    """

    digits: Tensor

    def __init__(
        self,
        digits: Tensor,
        code_num: int,
        embedding_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.5,
        max_history: int = 50,
        num_negatives: int = 4096,
        digit_loss_weight: float = 0.05,
        num_trained_digits: int = 8,
        learns_repeats: bool = True,
    ) -> None:
        super().__init__()
        n_rows, num_digits = digits.shape
        self.n_items = n_rows - 1
        self.num_digits = num_digits
        self.code_num = code_num
        self.max_history = max_history
        self.digit_loss_weight = digit_loss_weight
        self.num_trained_digits = min(num_trained_digits, num_digits)
        self.register_buffer("digits", digits.int())
        self.codebooks = nn.Parameter(torch.empty(num_digits * code_num, embedding_dim))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.transformer = CausalTransformer(
            embedding_dim, num_layers, num_heads, dropout, max_history, input_norm=True
        )
        self.repeats = RepeatBias(max_history) if learns_repeats else None
        self.item_softmax = ItemSoftmax(self.n_items, num_negatives, self.repeats)
        initialize_weights(self, "normal")
        # a mean of m vectors is as long as one of SASRec's
        nn.init.normal_(self.codebooks, std=0.02 * num_digits**0.5)

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
        """The state after the last item, (b, d)."""
        return last_states(self(history), history)

    def digit_logits(self, states: Tensor) -> Tensor:
        """(..., m, k): of the codes of each digit of the next item."""
        return (states @ self.codebooks.T).unflatten(-1, (self.num_digits, self.code_num))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """`item_loss` and `digit_loss`, means over the known targets; and `loss`, their weighted sum.

        Args:
            batch: `history` and `target`, (b, t) int64, padded with 0 on the right.
        """
        states = self(batch["history"])
        item_loss = self.item_softmax(states, batch, self.item_vectors)
        if not self.digit_loss_weight:
            return {"loss": item_loss, "item_loss": item_loss}
        known = batch["target"] != 0
        digit_loss = self._digit_loss(states[known], batch["target"][known])
        loss = item_loss + self.digit_loss_weight * digit_loss
        return {"loss": loss, "item_loss": item_loss, "digit_loss": digit_loss}

    def _digit_loss(self, states: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of some digits: states (n, d), targets (n,)."""
        drawn = torch.randperm(self.num_digits, device=states.device)[: self.num_trained_digits]
        codebooks = self.codebooks.view(self.num_digits, self.code_num, -1)[drawn].flatten(0, 1)
        logits = (states @ codebooks.T).unflatten(-1, (len(drawn), self.code_num))
        codes = self.digits[targets][:, drawn].long()
        return F.cross_entropy(logits.flatten(0, 1), codes.flatten())

    def scores(self, history: Tensor) -> Tensor:
        """(b, n_items + 1), column = item_id; padding is -inf."""
        users = self.user_vectors(history)
        items = torch.arange(self.n_items + 1, device=history.device)
        scores = torch.cat([users @ self.item_vectors(part).T for part in items.split(CHUNK_ITEMS)], dim=1)
        if self.repeats is not None:
            scores = self.repeats.add_to(scores, history)
        scores[:, 0] = -torch.inf
        return scores
