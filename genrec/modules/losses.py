"""Losses of the documents' page of modules, each with the source of its formula."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.models.etegrec.alignment import cosines


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
