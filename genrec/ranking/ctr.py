"""Networks for one label, such as a click: from linear to attention over the history.

All take a batch of features by name and give probabilities, (batch,), as `CTRTrainer` expects.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genrec.tasks.feature_layers import LinearFeatures, Mlp, TargetAttention, factorization_machine
from genrec.tasks.features import Batch, Feature, FeatureEmbedding, SequenceFeature, SparseFeature, total_dim


class LogisticRegression(nn.Module):
    """The floor: a weight for each category and each number."""

    def __init__(self, features: Sequence[Feature]) -> None:
        super().__init__()
        self.linear = LinearFeatures(features)

    def forward(self, x: Batch) -> Tensor:
        return self.linear(x).sigmoid()


class WideDeep(nn.Module):
    """Wide & Deep (Cheng et al. 2016): logistic regression and a deep network, added as logits."""

    def __init__(
        self,
        wide_features: Sequence[Feature],
        deep_features: Sequence[Feature],
        hidden_dims: Sequence[int] = (256, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.deep_features = list(deep_features)
        self.wide = LinearFeatures(wide_features)
        self.embedding = FeatureEmbedding(deep_features)
        self.deep = Mlp(total_dim(deep_features), hidden_dims, 1, dropout)

    def forward(self, x: Batch) -> Tensor:
        return (self.wide(x) + self.deep(self.embedding(x, self.deep_features)).squeeze(1)).sigmoid()


class DeepFM(nn.Module):
    """DeepFM (Guo et al. 2017): first order, all pairs, and a deep network over the same tables.

    Args:
        deep_features: what the deep network sees.
        fm_features: sparse or sequence features of one `embed_dim`, which also have the linear part.
    """

    def __init__(
        self,
        deep_features: Sequence[Feature],
        fm_features: Sequence[Feature],
        hidden_dims: Sequence[int] = (256, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len({feature.embed_dim for feature in fm_features}) != 1:
            dims = {feature.name: feature.embed_dim for feature in fm_features}
            raise ValueError(f"fm_features must be one or more of equal embed_dim, got {dims}")
        self.deep_features, self.fm_features = list(deep_features), list(fm_features)
        self.linear = LinearFeatures(fm_features)
        self.embedding = FeatureEmbedding([*deep_features, *fm_features])
        self.deep = Mlp(total_dim(deep_features), hidden_dims, 1, dropout)

    def forward(self, x: Batch) -> Tensor:
        pairs = factorization_machine(self.embedding.fields(x, self.fm_features))
        deep = self.deep(self.embedding(x, self.deep_features)).squeeze(1)
        return (self.linear(x) + pairs + deep).sigmoid()


class DIN(nn.Module):
    """Deep Interest Network (Zhou et al. 2018): each history is weighted by how its items suit the target.

    Args:
        features: everything beside histories and targets.
        history_features: each belongs to the target feature at its place, with whose vectors it is compared.
        target_features: as many as histories, each as wide as its history.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        history_features: Sequence[SequenceFeature],
        target_features: Sequence[SparseFeature],
        hidden_dims: Sequence[int] = (256, 128),
        attention_dims: Sequence[int] = (36,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        histories, targets = ([each.embed_dim for each in list_] for list_ in (history_features, target_features))
        if histories != targets:
            raise ValueError(
                "each history feature needs a target feature of its embed_dim, got "
                f"history_features of {histories} and target_features of {targets}"
            )
        everything: list[Feature] = [*features, *target_features, *history_features]
        self.features = [*features, *target_features]
        self.pairs = list(zip(history_features, target_features, strict=True))
        self.embedding = FeatureEmbedding(everything)
        self.attention = nn.ModuleList(TargetAttention(dim, attention_dims) for dim in targets)
        self.deep = Mlp(total_dim(everything), hidden_dims, 1, dropout)

    def forward(self, x: Batch) -> Tensor:
        interests = [
            attention(*self.embedding.sequence(x, history), self.embedding.vector(x, target))
            for attention, (history, target) in zip(self.attention, self.pairs, strict=True)
        ]
        return self.deep(torch.cat([self.embedding(x, self.features), *interests], dim=1)).squeeze(1).sigmoid()
