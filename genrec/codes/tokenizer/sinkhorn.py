"""Sinkhorn's algorithm: points are spread evenly over codes at the least total distance."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def log_transport_plan(distances: Tensor, epsilon: float = 0.003, iterations: int = 50) -> Tensor:
    """The entropy-regularised transport plan (Cuturi 2013) from equally heavy points to equally heavy codes.

    It stays in the log domain, since exp(1 / 0.003) overflows float32: rows and columns are normalised in turns. In the
    first half of the iterations the entropy's weight falls from 1 to `epsilon`; held at `epsilon` throughout, as many
    of them end farther from the optimum. (The plan of a smaller weight is the old one's power, normalised anew.) What
    a point has in common with all codes does not matter and is taken off before distances are scaled to 0..2, a
    range as wide as LC-Rec's, so that `epsilon` means the same for all codebooks.

    Args:
        distances: (n_points, n_codes).
        epsilon: the weight of the entropy at the end; the smaller, the nearer to an assignment.

    Returns:
        (n_points, n_codes), the logarithm; columns sum to 1 / n_codes, rows as nearly to 1 / n_points as the
        iterations reach.

    Example:
        >>> distances = torch.tensor([[1.0, 9.0], [2.0, 9.0], [3.0, 9.0], [4.0, 9.0]])
        >>> log_transport_plan(distances).argmax(1).tolist()
        [0, 0, 1, 1]
    """
    costs = distances - distances.amin(1, keepdim=True)
    plan = -2 * costs / costs.max().clamp_min(1e-30)
    annealing = max(iterations // 2, 1)
    for iteration in range(iterations):
        sharpened = plan * epsilon ** (-1 / annealing) if iteration < annealing else plan
        plan = F.log_softmax(F.log_softmax(sharpened, dim=1), dim=0)
    return plan - math.log(distances.shape[1])
