"""The loss of models that score items: a softmax over the catalogue or a sample of it, with repeats learned.

Letters: b batch, t positions, n known targets, s places of the history.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.modules.losses import full_softmax_loss
from genrec.networks.repeats import RepeatBias, visible_repeats


class ItemSoftmax(nn.Module):
    """Cross-entropy of the next item.

    Args:
        num_negatives: uniform negatives that a batch shares; 0 takes all items.
        repeats: the bias of the history's items, which are then negatives of their own; None for none.
    """

    def __init__(self, n_items: int, num_negatives: int, repeats: RepeatBias | None) -> None:
        super().__init__()
        self.n_items = n_items
        self.num_negatives = num_negatives
        self.repeats = repeats

    def forward(self, states: Tensor, batch: dict[str, Tensor], vectors_of: Callable[[Tensor], Tensor]) -> Tensor:
        """The mean over the positions whose target is known.

        Args:
            states: (b, t, d) after each item.
            batch: `history` and `target`, (b, t) int64, padded with 0 on the right.
            vectors_of: item_ids of any shape to their vectors (..., d).
        """
        if self.num_negatives == 0:
            return self._full(states, batch, vectors_of)
        negatives = torch.randint(1, self.n_items + 1, (self.num_negatives,), device=states.device)
        return self._sampled(states, batch, vectors_of, negatives)

    def _full(self, states: Tensor, batch: dict[str, Tensor], vectors_of: Callable[[Tensor], Tensor]) -> Tensor:
        known = batch["target"] != 0
        states, targets = states[known], batch["target"][known]
        vectors = vectors_of(torch.arange(self.n_items + 1, device=states.device))
        if self.repeats is None:
            return full_softmax_loss(states, targets, vectors)
        logits = states @ vectors.T
        logits[:, 0] = -torch.inf
        users = known.nonzero()[:, 0]
        logits = logits.scatter_add(1, batch["history"][users], self._bias(batch["history"])[known].to(logits.dtype))
        return F.cross_entropy(logits, targets)

    def _sampled(
        self, states: Tensor, batch: dict[str, Tensor], vectors_of: Callable[[Tensor], Tensor], negatives: Tensor
    ) -> Tensor:
        known = batch["target"] != 0
        positive = (states * vectors_of(batch["target"])).sum(-1, keepdim=True)[known]
        negative = states[known] @ vectors_of(negatives).T  # (n, num_negatives)
        hidden = batch["target"][known][:, None] == negatives
        if self.repeats is None:
            return _cross_entropy_of_first(positive, negative.masked_fill(hidden, -torch.inf))
        own, bias_of_target = self._own_items(states, batch, vectors_of)
        # an item of the history stands once, as itself; a negative stands for all of which it was drawn
        is_own = (batch["history"][:, :, None] == negatives).any(1)  # (b, num_negatives)
        hidden |= is_own.repeat_interleave(known.sum(1), dim=0)
        negative = negative.masked_fill(hidden, -torch.inf)
        return _cross_entropy_of_first(positive + bias_of_target[known], torch.cat([negative, own[known]], dim=1))

    def _own_items(
        self, states: Tensor, batch: dict[str, Tensor], vectors_of: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Logits of the history's other items (b, t, s), -inf where there is none; and the target's bias (b, t, 1)."""
        history = batch["history"]
        # each is a candidate for certain, where another item is one in `rarity`
        rarity = self.n_items / self.num_negatives
        visible = visible_repeats(history)
        bias = self._bias(history) - math.log(rarity)
        is_target = visible & (history[:, None, :] == batch["target"][:, :, None])
        logits = states @ vectors_of(history).transpose(1, 2) + bias
        return logits.masked_fill(~visible | is_target, -torch.inf), (bias * is_target).sum(2, keepdim=True)

    def _bias(self, history: Tensor) -> Tensor:
        """(b, t, s): of the item at each place, seen from each position; 0 where it does not count."""
        assert self.repeats is not None
        place = torch.arange(history.shape[1], device=history.device)
        bias = self.repeats(place[:, None] - place)
        return torch.where(visible_repeats(history), bias, 0)


def _cross_entropy_of_first(first: Tensor, others: Tensor) -> Tensor:
    logits = torch.cat([first, others], dim=1)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
