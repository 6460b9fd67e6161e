"""L1 and L2 penalties of a network's weights, apart for embedding tables and all others."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

TABLES = (nn.Embedding, nn.EmbeddingBag)
# the base of all batch norms is private; these are its public descendants and the other norms
NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.LayerNorm, nn.GroupNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip


@dataclass(frozen=True)
class Regularization:
    """Factors of the sums of |w| (l1) and of w squared (l2); norm layers are exempt, as are frozen weights.

    It comes on top of the optimizer's own weight decay.
    """

    embedding_l1: float = 0.0
    embedding_l2: float = 0.0
    dense_l1: float = 0.0
    dense_l2: float = 0.0

    @property
    def is_off(self) -> bool:
        return self == Regularization()

    def penalty(self, network: nn.Module) -> Tensor:
        """The penalty of a network, ()."""
        tables = _parameters_of(network, TABLES)
        exempt = _parameters_of(network, NORMS)
        total = torch.zeros((), device=next(network.parameters()).device)
        for parameter in network.parameters():
            if not parameter.requires_grad or id(parameter) in exempt:
                continue
            is_table = id(parameter) in tables
            l1, l2 = (self.embedding_l1, self.embedding_l2) if is_table else (self.dense_l1, self.dense_l2)
            if l1:
                total = total + l1 * parameter.abs().sum()
            if l2:
                total = total + l2 * parameter.square().sum()
        return total


def _parameters_of(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> set[int]:
    return {
        id(parameter) for module in network.modules() if isinstance(module, kinds) for parameter in module.parameters()
    }
