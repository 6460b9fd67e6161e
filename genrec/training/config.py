"""What a trainer is told: typed dataclasses with the defaults that page 000 prints."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch


def _gpus_at_hand() -> int:
    return 1 if torch.cuda.is_available() else 0


@dataclass
class TrainingConfig:
    """How long, how fast, where to.

    Attributes:
        gpus: 1, or the id of the one to use in a list; 0 or none trains on the CPU. With several devices as many.
        num_workers: worker processes of a loader, at most.
        val_check_interval: how often an epoch validates, in epochs; above 1 must be whole.
        early_stopping_patience: validations without gain of `monitor`; 0 never stops early.
        deterministic: refuse operations that have no deterministic algorithm; "warn" uses them and says so.
        run_test: test the best weights at the end of `train_model`.
        monitor, monitor_mode: the metric that chooses the best weights, and whether `min` or `max` is best.
        checkpoint_dir, log_dir: folders; `~` is the home folder.
        resume: continue from `checkpoint_dir`/last.ckpt where there is one.
        devices: how many processes train together on this machine, each on its share of every batch.
        num_nodes: how many machines do.
    """

    max_epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-3
    gpus: int | list[int] = field(default_factory=_gpus_at_hand)
    precision: int | str = 32
    num_workers: int = 4
    gradient_clip_val: float = 1.0
    accumulate_grad_batches: int = 1
    val_check_interval: float = 1.0
    checkpoint_dir: str = "checkpoints"
    log_dir: str = "logs"
    experiment_name: str = "experiment"
    version: str | None = None
    save_top_k: int = 3
    early_stopping_patience: int = 10
    deterministic: bool | Literal["warn"] = True
    random_seed: int = 42
    progress_bar: bool = True
    run_test: bool = True
    monitor: str = "val_loss"
    monitor_mode: str = "min"
    resume: bool = False
    devices: int = 1
    num_nodes: int = 1

    def __post_init__(self) -> None:
        self.checkpoint_dir, self.log_dir = (
            str(Path(path).expanduser()) for path in (self.checkpoint_dir, self.log_dir)
        )


@dataclass
class RankingConfig(TrainingConfig):
    """For models that are chosen by full ranking: the one best state is kept."""

    monitor: str = "val_ndcg_at_10"
    monitor_mode: str = "max"
    save_top_k: int = 1
