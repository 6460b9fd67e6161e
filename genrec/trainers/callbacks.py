"""What a run needs beside Lightning's own callbacks: randomness by epoch, a line an epoch, resumable curves."""

import sys
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from genrec.trainers.curves import CurveLogger


class EpochSeed(Callback):
    """Each epoch draws its random numbers from (seed, epoch) alone, so a resumed run equals an uninterrupted one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # here and not at the epoch's start: creating the loader's iterator draws a number too
        if batch_idx == 0:
            torch.manual_seed(self.seed * 1_000_003 + trainer.current_epoch)


class EpochLines(Callback):
    """One line an epoch on stderr, where no progress bar can be drawn."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        shown = "  ".join(f"{name} {value:.4g}" for name, value in sorted(values.items()))
        sys.stderr.write(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {shown}\n")


class KeptCurves(Callback):
    """The curves so far travel in the checkpoint, so that a resumed run writes whole ones."""

    def __init__(self, logger: CurveLogger) -> None:
        self.logger = logger

    def state_dict(self) -> dict[str, Any]:
        return self.logger.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.logger.restore(state_dict)
