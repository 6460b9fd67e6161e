"""Cross-entropy of the next item, among the whole catalogue or a sample of it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def full_softmax_loss(states: Tensor, targets: Tensor, item_vectors: Tensor) -> Tensor:
    """Cross-entropy over the whole catalogue.

    Args:
        states: (n, dim).
        targets: (n,) int64 item_ids.
        item_vectors: (n_items + 1, dim); row 0 (padding) is no candidate.
    """
    return F.cross_entropy(states @ item_vectors[1:].T, targets - 1)


def sampled_softmax_loss(states: Tensor, targets: Tensor, item_vectors: Tensor, negatives: Tensor) -> Tensor:
    """Cross-entropy of the target among itself and negatives that the whole batch shares.

    A negative that equals a row's own target is left out for that row. Uniform negatives need no logQ correction.

    Args:
        states, targets, item_vectors: as in `full_softmax_loss`.
        negatives: (n_negatives,) int64 item_ids.
    """
    positive = (states * item_vectors[targets]).sum(-1, keepdim=True)
    negative = (states @ item_vectors[negatives].T).masked_fill(targets[:, None] == negatives, -torch.inf)
    return F.cross_entropy(torch.cat([positive, negative], dim=1), torch.zeros_like(targets))
