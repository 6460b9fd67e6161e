"""Networks for several labels at once: (batch, n_tasks), probabilities of classifications, values of regressions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genrec.tasks.feature_layers import Experts, Linear, Mlp
from genrec.tasks.features import Batch, Feature, FeatureEmbedding, total_dim

TASK_TYPES = ("classification", "regression")


def check_task_types(task_types: Sequence[str]) -> list[str]:
    """Refuse what is no list of known kinds."""
    if not task_types or set(task_types) - set(TASK_TYPES):
        raise ValueError(f"task_types must be a list of {' and '.join(TASK_TYPES)}, got {task_types!r}")
    return list(task_types)


class Towers(nn.Module):
    """A small network a task, ending in what the task predicts."""

    def __init__(self, task_types: Sequence[str], input_dim: int, hidden_dims: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.task_types = check_task_types(task_types)
        self.towers = nn.ModuleList(Mlp(input_dim, hidden_dims, 1, dropout) for _ in task_types)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """One input (batch, input_dim) a task, to (batch, n_tasks)."""
        outputs = [tower(each) for tower, each in zip(self.towers, inputs, strict=True)]
        predictions = [
            output.sigmoid() if kind == "classification" else output
            for output, kind in zip(outputs, self.task_types, strict=True)
        ]
        return torch.cat(predictions, dim=1)


class SharedBottom(nn.Module):
    """The floor: one network below, a tower a task above (Caruana 1997)."""

    def __init__(
        self,
        features: Sequence[Feature],
        task_types: Sequence[str],
        bottom_dims: Sequence[int] = (128,),
        tower_dims: Sequence[int] = (32,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = list(features)
        self.embedding = FeatureEmbedding(features)
        self.bottom = Experts(1, total_dim(features), bottom_dims)
        self.towers = Towers(task_types, self.bottom.output_dim, tower_dims, dropout)

    def forward(self, x: Batch) -> Tensor:
        shared = self.bottom(self.embedding(x, self.features))[0]
        return self.towers([shared] * len(self.towers.task_types))

    def last_shared_layer(self) -> nn.Parameter:
        return self.bottom.weights[-1]


class MMOE(nn.Module):
    """Multi-gate mixture of experts (Ma et al. 2018): each task mixes the shared experts by a gate of its own."""

    def __init__(
        self,
        features: Sequence[Feature],
        task_types: Sequence[str],
        n_experts: int = 4,
        expert_dims: Sequence[int] = (64,),
        tower_dims: Sequence[int] = (32,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = list(features)
        self.embedding = FeatureEmbedding(features)
        width = total_dim(features)
        self.experts = Experts(n_experts, width, expert_dims)
        self.gates = nn.ModuleList(Linear(width, n_experts) for _ in task_types)
        self.towers = Towers(task_types, self.experts.output_dim, tower_dims, dropout)

    def forward(self, x: Batch) -> Tensor:
        inputs = self.embedding(x, self.features)
        experts = self.experts(inputs)
        return self.towers([mix(experts, gate(inputs)) for gate in self.gates])

    def last_shared_layer(self) -> nn.Parameter:
        return self.experts.weights[-1]


class PLE(nn.Module):
    """Progressive layered extraction (Tang et al. 2020): experts of each task and of all, mixed level by level.

    Args:
        n_levels: how often experts are mixed; below the last level the shared experts are mixed too.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        task_types: Sequence[str],
        n_levels: int = 2,
        n_specific_experts: int = 2,
        n_shared_experts: int = 2,
        expert_dims: Sequence[int] = (64,),
        tower_dims: Sequence[int] = (32,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = list(features)
        self.embedding = FeatureEmbedding(features)
        width = total_dim(features)
        self.levels = nn.ModuleList()
        for level in range(n_levels):
            is_last = level == n_levels - 1
            extraction = Extraction(
                width, len(task_types), n_specific_experts, n_shared_experts, expert_dims, mixes_shared=not is_last
            )
            self.levels.append(extraction)
            width = extraction.shared.output_dim
        self.towers = Towers(task_types, width, tower_dims, dropout)

    def forward(self, x: Batch) -> Tensor:
        inputs = [self.embedding(x, self.features)] * (len(self.towers.task_types) + 1)
        for level in self.levels:
            inputs = level(inputs)
        return self.towers(inputs)

    def last_shared_layer(self) -> nn.Parameter:
        return self.levels[-1].shared.weights[-1]  # type: ignore[union-attr, return-value, index]


class Extraction(nn.Module):
    """One level of PLE: inputs of each task, and last the shared one, to the same of the next level.

    Args:
        mixes_shared: whether there is a next level that needs a shared input.
    """

    def __init__(
        self,
        input_dim: int,
        n_tasks: int,
        n_specific: int,
        n_shared: int,
        expert_dims: Sequence[int],
        *,
        mixes_shared: bool,
    ) -> None:
        super().__init__()
        self.specific = nn.ModuleList(Experts(n_specific, input_dim, expert_dims) for _ in range(n_tasks))
        self.shared = Experts(n_shared, input_dim, expert_dims)
        self.gates = nn.ModuleList(Linear(input_dim, n_specific + n_shared) for _ in range(n_tasks))
        self.shared_gate = Linear(input_dim, n_tasks * n_specific + n_shared) if mixes_shared else None

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        specific = [experts(each) for experts, each in zip(self.specific, inputs[:-1], strict=True)]
        shared = self.shared(inputs[-1])
        mixed = [
            mix(torch.cat([own, shared]), gate(each))
            for own, gate, each in zip(specific, self.gates, inputs[:-1], strict=True)
        ]
        if self.shared_gate is not None:
            mixed.append(mix(torch.cat([*specific, shared]), self.shared_gate(inputs[-1])))
        return mixed


def mix(experts: Tensor, gate: Tensor) -> Tensor:
    """The experts' mean, weighted by the gate's softmax.

    Args:
        experts: (n_experts, batch, dim).
        gate: (batch, n_experts) logits.

    Returns:
        (batch, dim).
    """
    return torch.einsum("be,ebd->bd", gate.softmax(dim=-1), experts)


class ESMM(nn.Module):
    """Entire-space multi-task model (Ma et al. 2018): p(click and conversion) = p(click) p(conversion | click).

    Its labels and outputs are conversion, click, and both. Conversions alone are never trained: they are known for
    clicked rows only, and a network that learned from those would not know the others.
    """

    #: of the outputs those that have a loss
    trained_tasks = (1, 2)

    def __init__(self, features: Sequence[Feature], hidden_dims: Sequence[int] = (128, 64), dropout: float = 0.0):
        super().__init__()
        self.features = list(features)
        self.embedding = FeatureEmbedding(features)
        self.towers = Towers(["classification"] * 2, total_dim(features), hidden_dims, dropout)

    def forward(self, x: Batch) -> Tensor:
        """(batch, 3): p(conversion | click), p(click), p(both)."""
        inputs = self.embedding(x, self.features)
        conversion, click = self.towers([inputs, inputs]).unbind(1)
        return torch.stack([conversion, click, conversion * click], dim=1)

    def last_shared_layer(self) -> nn.Parameter:
        raise ValueError("GradNorm probes the last shared dense layer, but ESMM's tasks share only embedding tables")
