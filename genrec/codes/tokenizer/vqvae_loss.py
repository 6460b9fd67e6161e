"""What an RQ-VAE minimises."""

import torch.nn.functional as F
from torch import Tensor, nn


class VQVAELoss(nn.Module):
    """Reconstruction, commitment and embedding loss in one sum (van den Oord et al. 2017, equation 3).

    Args:
        commitment_cost: the weight of the commitment loss. A `VectorQuantizer` returns it weighted already: take 1.
        beta: the weight of the embedding loss.

    Example:
        >>> import torch
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
