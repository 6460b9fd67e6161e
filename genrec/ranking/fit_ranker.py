"""The pipeline's ranker through CTRTrainer or MTLTrainer, whichever its network asks for."""

from dataclasses import dataclass

import torch
from pytorch_lightning.loggers import Logger

from genrec.errors import UserError
from genrec.ranking.ctr_trainer import CTRTrainer
from genrec.ranking.feature_batches import feature_loader
from genrec.ranking.mtl_trainer import MTLTrainer
from genrec.ranking.ranker import CLICK_NETWORKS, Ranker
from genrec.ranking.rows import RankingRows

HIGHEST_RATING, LIKED = 5.0, 4.0


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


def ranker_labels(kind: str, rows: RankingRows) -> torch.Tensor:
    """Clicks (n_rows,) for networks of one label, else (n_rows, 2) or ESMM's (n_rows, 3).

    A rating is a share of the highest one, NaN where it is not known. ESMM: liked given a click, click, liked click.

    Raises:
        UserError: the network learns ratings and there is none.
    """
    if kind in CLICK_NETWORKS:
        return rows.clicks
    if rows.ratings.isnan().all():
        others = ", ".join(CLICK_NETWORKS)
        raise UserError(f"network {kind!r} learns ratings, which the data have not; set train_ranker.network: {others}")
    if kind == "esmm":
        liked = (rows.ratings >= LIKED).float()  # NaN, an item that was not taken, is not
        return torch.stack([liked, rows.clicks, liked * rows.clicks], dim=1)
    return torch.stack([rows.clicks, rows.ratings / HIGHEST_RATING], dim=1)


def fit_ranker(
    ranker: Ranker,
    rows: RankingRows,
    holdout: torch.Tensor,
    settings: RankerSettings,
    model_path: str,
    logger: Logger,
    name: str = "ranker",
) -> None:
    """Train on the candidates of some users, choose the epoch by those of others.

    Args:
        holdout: bool (n_users,), the users whose candidates validate.
        name: stands before what is said of the training.
    """
    train, val = rows.of_users(~holdout), rows.of_users(holdout)
    ranker.set_scale(train.features["signals"])
    optimizer = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "fused": True}
    gpus = list(range(settings.gpus))
    train_loader, val_loader = (
        feature_loader(part.features, ranker_labels(ranker.kind, part), settings.batch_size, seed)
        for part, seed in ((train, settings.seed), (val, None))
    )
    if ranker.kind in CLICK_NETWORKS:
        CTRTrainer(
            ranker, torch.optim.Adam, optimizer, n_epoch=settings.max_epochs, earlystop_patience=settings.patience,
            gpus=gpus, model_path=model_path, model_logger=logger, seed=settings.seed, precision=settings.precision,
            resume=True, progress_bar=settings.progress_bar, experiment_name=name,
        ).fit(train_loader, val_loader)  # fmt: skip
        return
    tasks = ["classification"] * 3 if ranker.kind == "esmm" else ["classification", "regression"]
    MTLTrainer(
        ranker, tasks, torch.optim.Adam, optimizer,
        adaptive_params=None if settings.loss_weighting == "equal" else {"method": settings.loss_weighting},
        n_epoch=settings.max_epochs, earlystop_taskid=ranker.click_task, earlystop_patience=settings.patience,
        gpus=gpus, model_path=model_path, model_logger=logger, precision=settings.precision, resume=True,
        progress_bar=settings.progress_bar, experiment_name=name,
    ).fit(train_loader, val_loader, seed=settings.seed)  # fmt: skip
