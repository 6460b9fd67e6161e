"""The loss of models that score items: a softmax over the catalogue or a sample of it, with repeats learned.

Letters: b batch, t positions, n known targets, s places of the history.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genrec.layers.log_sum_exp import log_sum_exp_of_products
from genrec.networks.sequential.repeats import RepeatBias, visible_repeats

VectorsOf = Callable[[Tensor], Tensor]


class ItemSoftmax:
    """Cross-entropy of the next item among itself and negatives that the whole batch shares.

    A negative that equals a row's own target is left out for that row. Uniform negatives need no correction of their
    probability.

    Args:
        num_negatives: drawn anew each step, all different; 0 takes all items.
    """

    def __init__(self, n_items: int, num_negatives: int) -> None:
        self.n_items = n_items
        self.num_negatives = min(num_negatives, n_items) or n_items

    def __call__(
        self, states: Tensor, batch: dict[str, Tensor], vectors_of: VectorsOf, repeats: RepeatBias | None
    ) -> Tensor:
        """The mean over the positions whose target is known.

        Args:
            states: (b, t, d) after each item.
            batch: `history` and `target`, (b, t) int64, padded with 0 on the right.
            vectors_of: item_ids of any shape to their vectors (..., d).
            repeats: the bias of the history's items, which are then candidates whether drawn or not; None for none.
        """
        known = batch["target"] != 0
        negatives = self._drawn(states.device)
        column = negatives.new_full((self.n_items + 1,), -1)  # of each item that is a negative
        column[negatives] = torch.arange(len(negatives), device=states.device)
        positive = (states * vectors_of(batch["target"])).sum(-1)[known]
        hidden = column[batch["target"][known]][:, None]
        total = positive
        if repeats is not None:
            # an item of the history stands once, as itself; a negative stands for all of which it was drawn
            past, own, bias = self._repeats(repeats, states, batch, vectors_of)
            positive = positive + bias[known]
            hidden = torch.cat([hidden, torch.where(past == 0, -1, column[past])[known]], dim=1)
            total = torch.logaddexp(positive, own[known].logsumexp(1))
        rows, places = (hidden >= 0).nonzero(as_tuple=True)
        others = log_sum_exp_of_products(states[known], vectors_of(negatives), rows, hidden[rows, places])
        return (torch.logaddexp(total, others) - positive).mean()

    def _drawn(self, device: torch.device) -> Tensor:
        if self.num_negatives == self.n_items:
            return torch.arange(1, self.n_items + 1, device=device)
        return torch.randperm(self.n_items, device=device)[: self.num_negatives] + 1

    def _repeats(
        self, repeats: RepeatBias, states: Tensor, batch: dict[str, Tensor], vectors_of: VectorsOf
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What a history's items are at each position.

        Returns:
            the items so far (b, t, s), 0 at later places; the logits of those that are not the target (b, t, s), -inf
            elsewhere; the bias of the target (b, t), 0 where it is no repeat.
        """
        history = batch["history"]
        place = torch.arange(history.shape[1], device=history.device)
        steps = place[:, None] - place  # (t, s)
        visible = visible_repeats(history)
        is_target = visible & (history[:, None, :] == batch["target"][:, :, None])
        # each is a candidate for certain, of other items one in n_items / num_negatives
        bias = repeats(steps) - math.log(self.n_items / self.num_negatives)
        logits = states @ vectors_of(history).transpose(1, 2) + bias
        own = logits.masked_fill(~visible | is_target, -torch.inf)
        past = torch.where(steps >= 0, history[:, None, :], 0)
        return past, own, (bias * is_target).sum(2)
