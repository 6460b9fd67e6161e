"""The layers that ranking networks are made of."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.layers.batch_norm import BatchNorm
from genrec.layers.dropout import ElementDropout
from genrec.layers.tiles import at_once
from genrec.tasks.features import Batch, DenseFeature, Feature, FeatureEmbedding, first_order, total_dim

ALIGNED = 4  # float32 in 16 bytes


class Linear(nn.Linear):
    """`nn.Linear` whose rows, without gradients on a CPU, are the same bytes at any place of a batch."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        if at_once(input):
            return super().forward(input)
        return aligned_linear(input, self.weight, self.bias)


class Mlp(nn.Module):
    """Hidden layers, each linear, batch norm, ReLU and dropout, then a linear output.

    Args:
        output_dim: 0 ends with the last hidden layer.
    """

    def __init__(self, input_dim: int, hidden_dims: Sequence[int], output_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for dim in hidden_dims:
            layers += [Linear(input_dim, dim, bias=False), BatchNorm(dim), nn.ReLU(), ElementDropout(dropout)]
            input_dim = dim
        if output_dim:
            layers.append(Linear(input_dim, output_dim))
        self.output_dim = output_dim or input_dim
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, input_dim) to (batch, output_dim)."""
        return self.layers(x)


class LinearFeatures(nn.Module):
    """A weight for each category and each number, and a bias: logistic regression's logit."""

    def __init__(self, features: Sequence[Feature]) -> None:
        super().__init__()
        self.features = first_order(features)
        self.embedding = FeatureEmbedding(self.features)
        self.dense_features = [feature for feature in self.features if isinstance(feature, DenseFeature)]
        self.sparse_features = [feature for feature in self.features if not isinstance(feature, DenseFeature)]
        self.dense = nn.Linear(total_dim(self.dense_features), 1) if self.dense_features else None
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Batch) -> Tensor:
        """(batch,)."""
        logit = self.bias
        if self.sparse_features:
            logit = logit + self.embedding(x, self.sparse_features).sum(1)
        if self.dense is not None:
            logit = logit + self.dense(self.embedding(x, self.dense_features)).squeeze(1)
        return logit


def factorization_machine(fields: Tensor) -> Tensor:
    """The sum of the dot products of all pairs (Rendle 2010), (batch, n_fields, dim) to (batch,).

    Example:
        >>> factorization_machine(torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])).tolist()
        [67.0]
    """
    return 0.5 * (fields.sum(1).square() - fields.square().sum(1)).sum(1)


class TargetAttention(nn.Module):
    """DIN's activation unit (Zhou et al. 2018): a weight for each item of the history, from it and the target.

    The weights are not normalised: many items like the target say more than one.
    """

    def __init__(self, dim: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 4 * dim
        for hidden_dim in hidden_dims:
            # no batch norm: its statistics would count the padding
            layers += [nn.Linear(width, hidden_dim), nn.PReLU()]
            width = hidden_dim
        self.score = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, history: Tensor, is_known: Tensor, target: Tensor) -> Tensor:
        """The weighted sum of the history.

        Args:
            history: (batch, length, dim).
            is_known: bool (batch, length), False at padding.
            target: (batch, dim).

        Returns:
            (batch, dim).
        """
        target = target[:, None].expand_as(history)
        weights = self.score(torch.cat([target, history, target - history, target * history], dim=-1)).squeeze(-1)
        return torch.einsum("bl,bld->bd", weights.masked_fill(~is_known, 0), history)


class Experts(nn.Module):
    """Several networks of one shape, computed together; each layer linear, layer norm and ReLU."""

    def __init__(self, n_experts: int, input_dim: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        dims = [input_dim, *hidden_dims]
        self.weights = nn.ParameterList(
            torch.empty(n_experts, before, after) for before, after in zip(dims, dims[1:], strict=False)
        )
        self.biases = nn.ParameterList(torch.zeros(n_experts, 1, after) for after in hidden_dims)
        self.output_dim = dims[-1]
        for weight in self.weights:
            bound = weight.shape[1] ** -0.5
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, input_dim) to (n_experts, batch, output_dim)."""
        hidden = x.expand(len(self.weights[0]), *x.shape)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if at_once(x):
                hidden = torch.baddbmm(bias, hidden, weight).relu()
            else:
                each = zip(hidden, weight.mT, bias[:, 0], strict=True)
                hidden = torch.stack([aligned_linear(*of_expert) for of_expert in each]).relu()
        return hidden


def aligned_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` whose rows are the same bytes at any place of a batch.

    Few outputs of rows that begin at no multiple of 16 bytes are summed up in the order that the address suggests.
    """
    return F.linear(_aligned(x), _aligned(weight), bias)


def _aligned(values: Tensor) -> Tensor:
    """With zeros behind the last column, up to a multiple of `ALIGNED`."""
    missing = -values.shape[-1] % ALIGNED
    return F.pad(values, (0, missing)) if missing else values.contiguous()
