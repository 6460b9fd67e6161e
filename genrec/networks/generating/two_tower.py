"""Networks that give a user and an item a vector each, so that retrieval is a search for the largest dot products.

What a batch asks for decides what `forward` gives:

    user and item features                          probabilities, (batch,)
    and `neg_<item feature>`, (batch, n) each       logits, (batch, 1 + n), the positive item first

`neg_items` is another name for the negatives of an item that is described by its id alone.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.models.sasrec import SASRec
from genrec.tasks.feature_layers import Mlp
from genrec.tasks.features import Batch, Feature, FeatureEmbedding, SparseFeature, look_up, total_dim


class TwoTower(nn.Module):
    """What `MatchTrainer` trains.

    Attributes:
        item_names: the features of an item; the first one is its id.
        temperature: scores are dot products over it.
        mode: `user` or `item` lets `forward` give the vectors of that tower; None the scores.
    """

    item_names: list[str]
    temperature: float = 1.0
    mode: str | None = None

    def user_tower(self, x: Batch) -> Tensor:
        """(batch, dim)."""
        raise NotImplementedError

    def item_tower(self, x: Batch) -> Tensor:
        """(batch, dim)."""
        raise NotImplementedError

    def forward(self, x: Batch) -> Tensor:
        if self.mode == "user":
            return self.user_tower(x)
        if self.mode == "item":
            return self.item_tower(x)
        users, items = self.user_tower(x), self.item_tower(x)
        positive = (users * items).sum(-1) / self.temperature
        negatives = self.negatives(x)
        if not negatives:
            return positive.sigmoid()
        n = next(iter(negatives.values())).shape[1]
        vectors = self.item_tower({name: value.flatten(0, 1) for name, value in negatives.items()})
        negative = torch.einsum("bd,bnd->bn", users, vectors.unflatten(0, (len(users), n))) / self.temperature
        return torch.cat([positive[:, None], negative], dim=1)

    def negatives(self, x: Batch) -> dict[str, Tensor]:
        """The features of each row's negative items, (batch, n, ...) each, by the positive's names; {} for none."""
        if "neg_items" in x and len(self.item_names) == 1:
            return {self.item_names[0]: x["neg_items"]}
        found = {name: x[f"neg_{name}"] for name in self.item_names if f"neg_{name}" in x}
        if found and len(found) < len(self.item_names):
            missing = next(name for name in self.item_names if name not in found)
            raise ValueError(f"negative items need all features of an item, got no 'neg_{missing}'")
        return {name: value[:, None] if value.dim() == 1 else value for name, value in found.items()}


class DSSM(TwoTower):
    """Two deep towers of unit vectors (Huang et al. 2013).

    Their last layer is linear: after a ReLU all vectors would lie in one corner, and some would die.
    """

    def __init__(
        self,
        user_features: Sequence[Feature],
        item_features: Sequence[Feature],
        hidden_dims: Sequence[int] = (128,),
        output_dim: int = 64,
        temperature: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.user_features, self.item_features = list(user_features), list(item_features)
        self.item_names = [feature.name for feature in item_features]
        self.temperature = temperature
        self.embedding = FeatureEmbedding([*user_features, *item_features])
        self.user_mlp = Mlp(total_dim(user_features), hidden_dims, output_dim, dropout)
        self.item_mlp = Mlp(total_dim(item_features), hidden_dims, output_dim, dropout)

    def user_tower(self, x: Batch) -> Tensor:
        return F.normalize(self.user_mlp(self.embedding(x, self.user_features)), dim=-1)

    def item_tower(self, x: Batch) -> Tensor:
        return F.normalize(self.item_mlp(self.embedding(x, self.item_features)), dim=-1)


class YoutubeDNN(TwoTower):
    """A deep user tower over an item table (Covington et al. 2016), both of unit vectors."""

    def __init__(
        self,
        user_features: Sequence[Feature],
        item_feature: SparseFeature,
        hidden_dims: Sequence[int] = (128,),
        temperature: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.user_features, self.item_feature = list(user_features), item_feature
        self.item_names = [item_feature.name]
        self.temperature = temperature
        self.embedding = FeatureEmbedding([*user_features, item_feature])
        self.user_mlp = Mlp(total_dim(user_features), hidden_dims, item_feature.embed_dim, dropout)

    def user_tower(self, x: Batch) -> Tensor:
        return F.normalize(self.user_mlp(self.embedding(x, self.user_features)), dim=-1)

    def item_tower(self, x: Batch) -> Tensor:
        return F.normalize(self.embedding.vector(x, self.item_feature), dim=-1)


class SASRecTowers(TwoTower):
    """SASRec as two towers: the state after the last item, and the item table."""

    def __init__(self, model: SASRec, history_name: str = "history", item_name: str = "item_id") -> None:
        super().__init__()
        self.model = model
        self.history_name = history_name
        self.item_names = [item_name]

    def user_tower(self, x: Batch) -> Tensor:
        return self.model.user_vectors(x[self.history_name])

    def item_tower(self, x: Batch) -> Tensor:
        return look_up(self.model.item_embedding, x[self.item_names[0]], self.item_names[0])
