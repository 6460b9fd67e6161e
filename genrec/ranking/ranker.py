"""The pipeline's ranker: a network of `models.ctr` or `models.multi_task` over items, histories and signals."""

from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from genrec.choices import ClickNetwork, RankerNetwork, check_choice
from genrec.layers.tiles import in_tiles
from genrec.ranking.ctr import DIN, DeepFM, WideDeep
from genrec.ranking.multi_task import ESMM, MMOE, PLE, SharedBottom
from genrec.tasks.features import Batch, DenseFeature, Feature, SequenceFeature, SparseFeature

CLICK_NETWORKS = get_args(ClickNetwork)
ROWS = 64  # about as many as a user has candidates


class Ranker(nn.Module):
    """Scores candidates; it derives an item's attributes from its id, and scales the signals itself.

    An item's id is an attribute too, but semantic codes and others are shared by several items, so that rare and new
    items are judged by their like.

    Args:
        network: one of `RankerNetwork`: the first three give clicks, the next clicks and ratings, `esmm` likes too.
        attribute_sizes: the number of values of each attribute, 0 for padding included; the first is the id.
        n_signals: the width of `signals`.
    """

    def __init__(
        self,
        network: str,
        n_items: int,
        attribute_sizes: Sequence[int],
        n_signals: int,
        embedding_dim: int = 8,
        hidden_dims: Sequence[int] = (32,),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.hparams: dict[str, Any] = {
            "network": network,
            "n_items": n_items,
            "attribute_sizes": attribute_sizes,
            "n_signals": n_signals,
            "embedding_dim": embedding_dim,
            "hidden_dims": hidden_dims,
            "dropout": dropout,
        }
        self.kind = network
        self.attributes: Tensor
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("attributes", torch.zeros(n_items + 1, len(attribute_sizes), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(n_signals))
        self.register_buffer("deviation", torch.ones(n_signals))
        signals = DenseFeature("signals", n_signals)
        targets = [
            SparseFeature(f"attribute_{i}", size, embedding_dim, padding_idx=0)
            for i, size in enumerate(attribute_sizes)
        ]
        histories = [
            SequenceFeature(f"history_{i}", size, embedding_dim, shared_with=f"attribute_{i}")
            for i, size in enumerate(attribute_sizes)
        ]
        self.network = _build(network, signals, targets, histories, hidden_dims, dropout)

    def set_attributes(self, attributes: Tensor) -> None:
        """(n_items + 1, n_attributes) int64, row = item_id, row 0 = 0; saved with the weights."""
        self.attributes = attributes.to(self.attributes)

    def set_scale(self, signals: Tensor) -> None:
        """Bring the signals of (n_rows, n_signals) to mean 0 and variance 1; saved with the weights."""
        self.mean = signals.mean(0)
        self.deviation = signals.std(0).clamp_min(1e-6)

    @property
    def trained_tasks(self) -> Sequence[int]:
        """What `MTLTrainer` asks."""
        return (1, 2) if self.kind == "esmm" else (0, 1)

    @property
    def click_task(self) -> int:
        """The task whose score chooses the best epoch."""
        return 1 if self.kind == "esmm" else 0

    @property
    def monitor(self) -> str:
        """The name of that score among the logged figures."""
        return "val/auc" if self.kind in CLICK_NETWORKS else f"val/task_{self.click_task}_score"

    def last_shared_layer(self) -> nn.Parameter:
        return self.network.last_shared_layer()  # type: ignore[operator]

    def forward(self, x: Batch) -> Tensor:
        """What the network gives for each row of item_id (batch,), history (batch, length), signals (batch, n)."""
        target, history = self.attributes[x["item_id"]], self.attributes[x["history"]]
        features = {"signals": (x["signals"] - self.mean) / self.deviation}
        for i in range(self.attributes.shape[1]):
            features[f"attribute_{i}"], features[f"history_{i}"] = target[..., i], history[..., i]
        return self.network(features)

    def scores(self, x: Batch, rating_weight: float) -> Tensor:
        """What candidates are ordered by, (batch,): the click's chance times the rating's to the power of a weight.

        A row's bytes are the same in any batch.
        """
        names = list(x)
        return in_tiles(
            lambda *values: self._scores(dict(zip(names, values, strict=True)), rating_weight), *x.values(), size=ROWS
        )

    def _scores(self, x: Batch, rating_weight: float) -> Tensor:
        output = self(x)
        if self.kind in CLICK_NETWORKS:
            return output
        click, rating = (output[:, 1], output[:, 0]) if self.kind == "esmm" else (output[:, 0], output[:, 1])
        return click * rating.clamp_min(1e-6) ** rating_weight


def _build(
    network: str,
    signals: DenseFeature,
    targets: Sequence[SparseFeature],
    histories: Sequence[SequenceFeature],
    hidden_dims: Sequence[int],
    dropout: float,
) -> nn.Module:
    check_choice("network", network, RankerNetwork)
    sparse: list[Feature] = [*targets, *histories]
    everything: list[Feature] = [signals, *sparse]
    if network == "wide_deep":
        return WideDeep([signals], everything, hidden_dims, dropout)
    if network == "deep_fm":
        return DeepFM(everything, sparse, hidden_dims, dropout)
    if network == "din":
        return DIN([signals], histories, targets, hidden_dims, (16,), dropout)
    if network == "esmm":
        return ESMM(everything, hidden_dims, dropout)
    tasks = ["classification", "regression"]
    if network == "shared_bottom":
        return SharedBottom(everything, tasks, hidden_dims, (), dropout)
    if network == "mmoe":
        return MMOE(everything, tasks, 4, hidden_dims, (), dropout)
    if network == "ple":
        return PLE(everything, tasks, expert_dims=hidden_dims, tower_dims=(), dropout=dropout)
    raise AssertionError(network)
