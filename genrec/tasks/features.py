"""What a row of a table holds, by name, and the one layer that turns such rows into vectors.

A batch is a mapping of feature names to tensors with one row an example. The constructors' names are Torch-RecHub's;
a feature only describes, so two networks built from one list share no weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
Initializer = Callable[[Tensor], Any]

POOLINGS = ("mean", "sum", "concat")
SMALL_NORMAL: Initializer = partial(nn.init.normal_, std=0.01)


def default_embed_dim(vocab_size: int) -> int:
    """Torch-RecHub's rule: 6 times the fourth root, nearly, of the vocabulary.

    Example:
        >>> default_embed_dim(1000)
        36
    """
    return int(6 * vocab_size**0.26)


@dataclass(frozen=True)
class SparseFeature:
    """One category, int (batch,).

    Attributes:
        embed_dim: by default what `default_embed_dim` says.
        shared_with: the name of the feature whose table it reads.
        padding_idx: a category without a vector, always zero.
        initializer: fills a new table in place.
    """

    name: str
    vocab_size: int
    embed_dim: int = 0
    shared_with: str | None = None
    padding_idx: int | None = None
    initializer: Initializer = SMALL_NORMAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "embed_dim", self.embed_dim or default_embed_dim(self.vocab_size))


@dataclass(frozen=True)
class SequenceFeature:
    """Several categories in order, int (batch, length).

    Attributes:
        pooling: `mean`, `sum`, or `concat` for a layer that takes the whole sequence.
        padding_idx: fills up short sequences, on either side; never counted.
        embed_dim, shared_with, initializer: as for `SparseFeature`.
    """

    name: str
    vocab_size: int
    embed_dim: int = 0
    pooling: str = "mean"
    shared_with: str | None = None
    padding_idx: int = 0
    initializer: Initializer = SMALL_NORMAL

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {self.pooling!r} for {self.name!r}")
        object.__setattr__(self, "embed_dim", self.embed_dim or default_embed_dim(self.vocab_size))


@dataclass(frozen=True)
class DenseFeature:
    """Numbers, float (batch,) or (batch, embed_dim)."""

    name: str
    embed_dim: int = 1


Feature = SparseFeature | SequenceFeature | DenseFeature


def total_dim(features: Sequence[Feature]) -> int:
    """The width of all features side by side, as `FeatureEmbedding.forward` puts them."""
    return sum(feature.embed_dim for feature in features)


class FeatureEmbedding(nn.Module):
    """A table for each feature that has categories and does not share another's.

    Raises:
        ValueError: a feature shares a table that is missing or of another shape, or two features have one name.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        super().__init__()
        by_name: dict[str, Feature] = {}
        for feature in features:
            if by_name.setdefault(feature.name, feature) != feature:
                raise ValueError(f"features must have names of their own, got two kinds of {feature.name!r}")
        self.owners = {name: _owner(feature, by_name) for name, feature in by_name.items() if _has_table(feature)}
        self.tables = nn.ModuleDict(
            {name: _table(by_name[name]) for name in dict.fromkeys(self.owners.values())}  # type: ignore[arg-type]
        )

    def forward(self, x: Batch, features: Sequence[Feature]) -> Tensor:
        """All features side by side, (batch, total_dim): vectors, pooled sequences, numbers, in the list's order."""
        return torch.cat([self.vector(x, feature) for feature in features], dim=1)

    def fields(self, x: Batch, features: Sequence[Feature]) -> Tensor:
        """The features' vectors one above another, (batch, n_features, dim); they must be equally wide."""
        return torch.stack([self.vector(x, feature) for feature in features], dim=1)

    def vector(self, x: Batch, feature: Feature) -> Tensor:
        """One feature, (batch, embed_dim)."""
        if isinstance(feature, DenseFeature):
            return value_of(x, feature).float().view(-1, feature.embed_dim)
        if isinstance(feature, SparseFeature):
            return self._lookup(x, feature)
        vectors, is_known = self.sequence(x, feature)
        summed = (vectors * is_known[..., None]).sum(1)
        if feature.pooling == "mean":
            return summed / is_known.sum(1, keepdim=True).clamp_min(1)
        return summed

    def sequence(self, x: Batch, feature: SequenceFeature) -> tuple[Tensor, Tensor]:
        """The vectors of a sequence, (batch, length, embed_dim), and where it is no padding, bool (batch, length)."""
        return self._lookup(x, feature), value_of(x, feature) != feature.padding_idx

    def _lookup(self, x: Batch, feature: SparseFeature | SequenceFeature) -> Tensor:
        return look_up(self.tables[self.owners[feature.name]], value_of(x, feature), feature.name)  # type: ignore[arg-type]

    def check(self, x: Batch) -> None:
        """Refuse categories that no table has; for batches that are still on the CPU, where a device would only abort.

        Raises:
            ValueError: names the feature, the value and the limit.
        """
        for name, owner in self.owners.items():
            for given in (name, f"neg_{name}"):
                if given in x:
                    check_categories(x[given], self.tables[owner].num_embeddings, given)  # type: ignore[arg-type]


def look_up(table: nn.Embedding, categories: Tensor, name: str) -> Tensor:
    """The vectors of categories, (*categories.shape, dim).

    Raises:
        ValueError: names the feature, the value and the limit. Only on the CPU, where torch itself looks.
    """
    try:
        return table(categories.long())
    except IndexError:
        check_categories(categories, table.num_embeddings, name)
        raise


def check_categories(categories: Tensor, vocab_size: int, name: str) -> None:
    """Refuse categories that are no row of a table.

    Raises:
        ValueError: names the feature, the value and the limit.
    """
    wrong = (categories < 0) | (categories >= vocab_size) | categories.isnan()
    if wrong.any():
        raise ValueError(
            f"feature {name!r} must be 0 to {vocab_size - 1}, below its vocab_size, got {categories[wrong][0].item()}; "
            "encode it anew, or raise vocab_size to the largest value and 1 more"
        )


def first_order(features: Sequence[Feature]) -> list[Feature]:
    """The same features with one weight a category, for the linear part of a network."""
    return [_with_one_weight(feature) for feature in features]


def _with_one_weight(feature: Feature) -> Feature:
    if isinstance(feature, DenseFeature):
        return feature
    if isinstance(feature, SparseFeature):
        return replace(feature, embed_dim=1)
    return replace(feature, embed_dim=1, pooling="sum")


def value_of(x: Batch, feature: Feature) -> Tensor:
    """A feature's values in a batch.

    Raises:
        ValueError: the batch has none.
    """
    if feature.name not in x:
        raise ValueError(f"the batch must have the feature {feature.name!r}, got {', '.join(map(repr, sorted(x)))}")
    return x[feature.name]


def _has_table(feature: Feature) -> bool:
    return not isinstance(feature, DenseFeature)


def _owner(feature: Any, by_name: Mapping[str, Any]) -> str:
    """The name of the feature whose table a feature reads."""
    if feature.shared_with is None:
        return feature.name
    other = by_name.get(feature.shared_with)
    if other is None or not _has_table(other):
        raise ValueError(f"{feature.name!r} shares the table of {feature.shared_with!r}, which no feature has")
    if (other.vocab_size, other.embed_dim) != (feature.vocab_size, feature.embed_dim):
        raise ValueError(
            f"{feature.name!r} shares the table of {other.name!r}, so both must have one shape, got "
            f"{(feature.vocab_size, feature.embed_dim)} and {(other.vocab_size, other.embed_dim)}"
        )
    return _owner(other, by_name)


def _table(feature: SparseFeature | SequenceFeature) -> nn.Embedding:
    table = nn.Embedding(feature.vocab_size, feature.embed_dim, padding_idx=feature.padding_idx)
    feature.initializer(table.weight.data)
    if feature.padding_idx is not None:
        with torch.no_grad():
            table.weight[feature.padding_idx] = 0
    return table
