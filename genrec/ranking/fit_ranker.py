"""The pipeline's ranker through CTRTrainer or MTLTrainer, whichever its network asks for."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.errors import UserError
from genrec.ranking.ctr_trainer import CTRTrainer
from genrec.ranking.feature_batches import feature_loader
from genrec.ranking.mtl_trainer import MTLTrainer
from genrec.ranking.ranker import CLICK_NETWORKS, Ranker
from genrec.ranking.rows import RankingRows
from genrec.training.lightning import Logger

LIKED_SHARE = 0.8  # of the scale, 4 of 5


@dataclass(frozen=True)
class RatingScale:
    """What a source's ratings lie between; scales begin at 0, or at the lowest rating where that is below."""

    lowest: float
    highest: float

    @classmethod
    def of(cls, ratings: NDArray[np.floating] | None) -> "RatingScale":
        """The scale of all ratings of a source, NaN where it has none.

        Example:
            >>> RatingScale.of(np.array([1, 10, np.nan]))
            RatingScale(lowest=0.0, highest=10.0)
        """
        known = np.empty(0) if ratings is None else ratings[~np.isnan(ratings)]
        if not len(known):
            return cls(0.0, math.nan)
        return cls(min(float(known.min()), 0.0), float(known.max()))

    def shares(self, ratings: torch.Tensor) -> torch.Tensor:
        """0 at the scale's beginning, 1 at the highest rating."""
        return (ratings - self.lowest) / (self.highest - self.lowest)

    def likes(self, ratings: torch.Tensor) -> torch.Tensor:
        """bool; what is not known is not liked."""
        return ratings >= self.lowest + LIKED_SHARE * (self.highest - self.lowest)


@dataclass(frozen=True)
class RankerSettings:
    """How a ranker is trained; `loss_weighting` is `equal` or one of MTLTrainer's methods."""

    batch_size: int
    learning_rate: float
    weight_decay: float
    max_epochs: int
    patience: int
    loss_weighting: str
    gpus: int
    precision: str
    seed: int
    progress_bar: bool
    devices: int
    num_nodes: int


def ranker_labels(kind: str, rows: RankingRows, scale: RatingScale) -> torch.Tensor:
    """Clicks (n_rows,) for networks of one label, else (n_rows, 2) or ESMM's (n_rows, 3).

    A rating is a share of its scale, NaN where it is not known. ESMM: liked given a click, click, liked click.

    Raises:
        UserError: the network learns ratings and there is none, or all are 0.
    """
    if kind in CLICK_NETWORKS:
        return rows.clicks
    if rows.ratings.isnan().all():
        others = ", ".join(CLICK_NETWORKS)
        raise UserError(f"network {kind!r} learns ratings, and the data have none; set train_ranker.network: {others}")
    if scale.highest == scale.lowest:
        raise UserError(
            f"network {kind!r} learns ratings, but all are {scale.highest:g}; set train_ranker.network: "
            f"{', '.join(CLICK_NETWORKS)}"
        )
    if kind == "esmm":
        liked = scale.likes(rows.ratings).float()  # NaN, an item that was not taken, is not
        return torch.stack([liked, rows.clicks, liked * rows.clicks], dim=1)
    return torch.stack([rows.clicks, scale.shares(rows.ratings)], dim=1)


def fit_ranker(
    ranker: Ranker,
    rows: RankingRows,
    holdout: torch.Tensor,
    settings: RankerSettings,
    scale: RatingScale,
    model_path: str,
    logger: Logger,
    name: str = "ranker",
) -> None:
    """Train on the candidates of some users, choose the epoch by those of others.

    Args:
        holdout: bool (n_examples,), those whose candidates validate.
        scale: of the source's ratings, the same for both.
        name: stands before what is said of the training.
    """
    train, val = rows.of_users(~holdout), rows.of_users(holdout)
    ranker.set_scale(train.features["signals"])
    optimizer = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "fused": True}
    gpus = list(range(settings.gpus))
    train_loader, val_loader = (
        feature_loader(part.features, ranker_labels(ranker.kind, part, scale), settings.batch_size, seed)
        for part, seed in ((train, settings.seed), (val, None))
    )
    if ranker.kind in CLICK_NETWORKS:
        CTRTrainer(
            ranker, torch.optim.Adam, optimizer, n_epoch=settings.max_epochs, earlystop_patience=settings.patience,
            gpus=gpus, model_path=model_path, model_logger=logger, seed=settings.seed, precision=settings.precision,
            resume=True, progress_bar=settings.progress_bar, experiment_name=name, devices=settings.devices,
            num_nodes=settings.num_nodes,
        ).fit(train_loader, val_loader)  # fmt: skip
        return
    tasks = ["classification"] * 3 if ranker.kind == "esmm" else ["classification", "regression"]
    MTLTrainer(
        ranker, tasks, torch.optim.Adam, optimizer,
        adaptive_params=None if settings.loss_weighting == "equal" else {"method": settings.loss_weighting},
        n_epoch=settings.max_epochs, earlystop_taskid=ranker.click_task, earlystop_patience=settings.patience,
        gpus=gpus, model_path=model_path, model_logger=logger, precision=settings.precision, resume=True,
        progress_bar=settings.progress_bar, experiment_name=name, devices=settings.devices,
        num_nodes=settings.num_nodes,
    ).fit(train_loader, val_loader, seed=settings.seed)  # fmt: skip
