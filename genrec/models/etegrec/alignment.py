"""What aligns ETEGRec's tokenizer and recommender (arXiv 2409.05546, equations 6, 15 and 16)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from genrec.choices import SiaSign, check_choice


def first_occurrences(targets: Tensor) -> Tensor:
    """The rows of a batch at which each distinct target stands first, in the order of the targets' ids.

    ETEGRec aligns distinct targets only: a second row of the same item would be its own negative.

    Example:
        >>> first_occurrences(torch.tensor([7, 3, 7, 5, 3])).tolist()
        [1, 3, 0]
    """
    distinct, group = torch.unique(targets, return_inverse=True)
    rows = torch.arange(len(targets), device=targets.device)
    return torch.full_like(distinct, len(targets)).scatter_reduce(0, group, rows, "amin")


def code_log_probabilities(distances: Tensor, sign: str) -> Tensor:
    """ETEGRec's equation 6: log softmax of minus the distance, so that the nearest code is the likeliest.

    Args:
        distances: (..., code_num) squared distances.
        sign: `paper`, or `authors` for the published code, which takes plus the distance.
    """
    check_choice("sia_sign", sign, SiaSign)
    return F.log_softmax((-1 if sign == "paper" else 1) * distances, dim=-1)


def sequence_item_alignment(sequence_distances: Tensor, item_distances: Tensor, sign: str = "paper") -> Tensor:
    """SIA, ETEGRec's equation 15: the symmetric KL divergence between the code distributions of sequence and target.

    Args:
        sequence_distances: (n_targets, num_levels, code_num), of the projected encoder state.
        item_distances: the same shape, of the target's latent.

    Returns:
        (), both directions summed, each a mean over targets and levels.
    """
    sequence = code_log_probabilities(sequence_distances, sign).flatten(0, 1)
    item = code_log_probabilities(item_distances, sign).flatten(0, 1)
    return F.kl_div(sequence, item, reduction="batchmean", log_target=True) + F.kl_div(
        item, sequence, reduction="batchmean", log_target=True
    )


def preference_semantic_alignment(reconstructions: Tensor, preferences: Tensor, temperature: float = 0.07) -> Tensor:
    """PSA, ETEGRec's equation 16: InfoNCE in both directions, the other targets of the batch as negatives.

    Args:
        reconstructions: (n_targets, semantic_dim), the tokenizer's reconstruction of each target's embedding.
        preferences: (n_targets, semantic_dim), the projected first decoder state.

    Returns:
        (), both directions summed, each a mean over the targets.
    """
    similarities = cosines(reconstructions, preferences) / temperature
    own = torch.arange(len(similarities), device=similarities.device)
    return F.cross_entropy(similarities, own) + F.cross_entropy(similarities.T, own)


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """The cosine of each pair: (..., n, dim) and (..., m, dim) to (..., n, m)."""
    return F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).transpose(-2, -1)
