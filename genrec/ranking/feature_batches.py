"""Loaders of rows of features by name, each batch one indexing of whole arrays."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genrec.layers.processes import n_processes, share_of
from genrec.sequences.batches import BatchSampler, SharedSampler


class FeatureRows(Dataset[Any]):
    """Rows of features, with labels or without.

    Attributes:
        features: name to (n_rows, ...).
        labels: (n_rows, ...).
    """

    def __init__(self, features: Mapping[str, Tensor], labels: Tensor | None = None) -> None:
        n_rows = {name: len(value) for name, value in features.items()}
        if labels is not None:
            n_rows["labels"] = len(labels)
        if len(set(n_rows.values())) != 1:
            raise ValueError(f"features and labels must have equally many rows, got {n_rows}")
        self.features = features
        self.labels = labels
        self.n_rows = next(iter(n_rows.values()))

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, rows: NDArray[np.int64] | int) -> Any:
        """(features, labels) of this process's share of the rows, or the features alone where there are no labels."""
        chosen = torch.as_tensor(rows if isinstance(rows, int) else share_of(rows))
        features = {name: value[chosen] for name, value in self.features.items()}
        return features if self.labels is None else (features, self.labels[chosen])


class InOrder(SharedSampler):
    """Batches of the rows as they stand; one that is smaller than the number of processes joins the one before."""

    def __init__(self, n_rows: int, batch_size: int) -> None:
        self.n_rows = n_rows
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        yield from np.split(np.arange(self.n_rows), self._starts()[1:])

    def _starts(self) -> list[int]:
        starts = list(range(0, self.n_rows, self.batch_size))
        return starts[:-1] if len(starts) > 1 and self.n_rows - starts[-1] < n_processes() else starts


def feature_loader(
    features: Mapping[str, Tensor], labels: Tensor | None, batch_size: int, seed: int | None = None
) -> DataLoader[Any]:
    """Batches of rows.

    Args:
        seed: shuffles, anew each epoch; without one the rows keep their order.
    """
    rows = FeatureRows(features, labels)
    sampler = InOrder(len(rows), batch_size) if seed is None else BatchSampler(len(rows), batch_size, seed)
    return DataLoader(rows, sampler=sampler, batch_size=None)
