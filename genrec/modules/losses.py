"""Losses that more than one line of a model would need, each with the source of its formula."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VQVAELoss(nn.Module):
    """Reconstruction, commitment and embedding loss in one sum (van den Oord et al. 2017, equation 3).

    Args:
        commitment_cost: the weight of the commitment loss. A `VectorQuantizer` returns it weighted already: take 1.
        beta: the weight of the embedding loss.

    Example:
        >>> loss = VQVAELoss(commitment_cost=0.25)
        >>> losses = loss(torch.zeros(2, 3), torch.ones(2, 3), torch.tensor(4.0), torch.tensor(2.0))
        >>> losses["total_loss"]  # 1 + 0.25 * 4 + 2
        tensor(4.)
    """

    def __init__(self, commitment_cost: float = 0.25, beta: float = 1.0) -> None:
        super().__init__()
        self.commitment_cost = commitment_cost
        self.beta = beta

    def forward(self, x: Tensor, x_recon: Tensor, commitment_loss: Tensor, embedding_loss: Tensor) -> dict[str, Tensor]:
        """The sum and its unweighted terms.

        Args:
            x, x_recon: of one shape.
            commitment_loss, embedding_loss: ().

        Returns:
            `total_loss`, `reconstruction_loss` (the mean over all elements), `commitment_loss`, `embedding_loss`.
        """
        reconstruction_loss = F.mse_loss(x_recon, x)
        quantization_loss = self.commitment_cost * commitment_loss + self.beta * embedding_loss
        return {
            "total_loss": reconstruction_loss + quantization_loss,
            "reconstruction_loss": reconstruction_loss,
            "commitment_loss": commitment_loss,
            "embedding_loss": embedding_loss,
        }


class SequenceLoss(nn.Module):
    """Cross-entropy and accuracy of a token at each position.

    Logits and labels stand at the same position: who predicts the next token shifts the labels.

    Args:
        ignore_index: the label of positions that do not count.

    Example:
        >>> logits = torch.tensor([[[0.0, 9.0, 0.0], [9.0, 0.0, 0.0]]])
        >>> SequenceLoss(vocab_size=3)(logits, torch.tensor([[1, -100]]))["accuracy"]
        tensor(1.)
    """

    def __init__(self, vocab_size: int, ignore_index: int = -100, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Both as means over the positions that count; 0 where none does.

        Args:
            logits: (batch, length, vocab_size).
            labels: (batch, length) int64.
            attention_mask: (batch, length); positions of 0 do not count either.

        Returns:
            `loss` () and `accuracy` ().
        """
        if logits.shape != (*labels.shape, self.vocab_size):
            raise ValueError(
                f"logits must have the shape of labels and vocab_size={self.vocab_size}, got {tuple(logits.shape)} and "
                f"labels {tuple(labels.shape)}"
            )
        if attention_mask is not None:
            if attention_mask.shape != labels.shape:
                raise ValueError(
                    f"attention_mask must have the shape of labels, got {tuple(attention_mask.shape)} and "
                    f"{tuple(labels.shape)}"
                )
            labels = labels.masked_fill(attention_mask == 0, self.ignore_index)
        counts = labels != self.ignore_index
        n_counted = counts.sum().clamp_min(1)
        losses = F.cross_entropy(
            logits.flatten(0, -2),
            labels.flatten(),
            ignore_index=self.ignore_index,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        with torch.no_grad():
            accuracy = ((logits.argmax(-1) == labels) & counts).sum() / n_counted
        # divided before they are summed: a sum of many would overflow half precision
        return {"loss": (losses / n_counted).sum(), "accuracy": accuracy}


class ContrastiveLoss(nn.Module):
    """InfoNCE (van den Oord et al. 2018) of cosines: the positive against each anchor's own negatives.

    Args:
        margin: is subtracted from the positive's cosine, so that it must win by as much (CosFace, Wang et al. 2018); 0
            is plain InfoNCE.

    Example:
        >>> vectors = torch.eye(3)
        >>> loss = ContrastiveLoss(temperature=1.0, margin=0.0)
        >>> loss(anchor=vectors[:1], positive=vectors[1:2], negative=vectors[None, 2:])  # two equal cosines: log 2
        tensor(0.6931)
    """

    def __init__(self, temperature: float = 0.1, margin: float = 0.2) -> None:
        super().__init__()
        self.temperature = temperature
        self.margin = margin

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The mean over the batch, ().

        Args:
            anchor, positive: (batch, dim).
            negative: (batch, num_negatives, dim).
        """
        candidates = torch.cat([positive[:, None], negative], dim=1)
        similarities = cosines(anchor[:, None], candidates)[:, 0]  # (batch, 1 + num_negatives)
        handicap = torch.zeros_like(similarities)
        handicap[:, 0] = self.margin
        first = torch.zeros(len(similarities), dtype=torch.long, device=similarities.device)
        return F.cross_entropy((similarities - handicap) / self.temperature, first)


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """The cosine of each pair: (..., n, dim) and (..., m, dim) to (..., n, m)."""
    return F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).transpose(-2, -1)


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
    signs = {"paper": -1, "authors": 1}
    if sign not in signs:
        raise ValueError(f"sign must be one of {tuple(signs)}, got {sign!r}")
    return F.log_softmax(signs[sign] * distances, dim=-1)


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
