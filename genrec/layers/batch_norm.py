"""Batch normalisation whose batch is that of all processes which train together."""

import torch
from torch import Tensor, nn

from genrec.layers.processes import gathered, n_processes


class BatchNorm(nn.BatchNorm1d):
    """torch's own, but that of several processes each normalises its share by the whole batch (Ioffe and Szegedy 2015).

    torch's SyncBatchNorm does so on GPUs only. Alone, and in eval mode, this is `nn.BatchNorm1d`, to the last bit.
    """

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """(batch, num_features) to the same; in training with a gradient through the whole batch's statistics."""
        if n_processes() == 1 or not self.training:
            return super().forward(input)
        rows = input.float()
        mean, variance, n_rows = self._statistics(rows)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n_rows / (n_rows - 1), self.momentum)
        normalised = (rows - mean) * (variance + self.eps).rsqrt()
        return (normalised * self.weight + self.bias).to(input.dtype)

    @staticmethod
    def _statistics(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and biased variance of all processes' rows (Chan et al. 1983, equation 2.1), and how many there are.

        Each process gives the sum of squares about its own mean: about zero they would lose digits.
        """
        n_own, mean = rows.new_full((1, 1), len(rows)), rows.mean(0, keepdim=True)
        squares = (rows - mean).square().sum(0, keepdim=True)
        of_all = gathered(torch.cat([n_own, mean, squares], 1), n_processes())
        n, means, squares = of_all.split([1, rows.shape[1], rows.shape[1]], 1)
        mean = (n * means).sum(0) / n.sum()
        return mean, (squares + n * (means - mean).square()).sum(0) / n.sum(), n.sum()
