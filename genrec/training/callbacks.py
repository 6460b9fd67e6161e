"""What a run needs beside Lightning's own callbacks: randomness by epoch, a line an epoch, resumable curves."""

import sys
from typing import Any

import torch
from torch import Tensor

from genrec.layers.processes import WHOLE_BATCH
from genrec.training.curves import CurveLogger
from genrec.training.lightning import Callback, SIGTERMException, pl


class EpochSeed(Callback):
    """Each epoch draws its random numbers from (seed, epoch) alone, so a resumed run equals an uninterrupted one.

    Processes that train together draw alike, each time for their whole batch.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # here and not at the epoch's start: creating the loader's iterator draws a number too
        if batch_idx == 0:
            torch.manual_seed(self.seed * 1_000_003 + trainer.current_epoch)


class WholeBatches(Callback):
    """Of several processes each is told at a step's begin what all of them have of the batch, or that all end."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if _begin(batch, pl_module.device, stops=trainer.received_sigterm):
            raise SIGTERMException

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        _begin(batch, pl_module.device)

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        _begin(batch, pl_module.device)


def _begin(batch: Any, device: torch.device, stops: bool = False) -> bool:
    target = batch.get("target") if isinstance(batch, dict) else None
    n_targets = (target != 0).sum() if isinstance(target, Tensor) else 0
    return WHOLE_BATCH.begin(n_rows(batch), n_targets, device, stops)


def n_rows(batch: Any) -> int:
    """The rows of a batch's first tensor.

    Example:
        >>> n_rows(({"history": torch.zeros(3, 7)}, torch.zeros(3)))
        3
    """
    while isinstance(batch, dict | tuple | list):
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return len(batch)


class EpochLines(Callback):
    """About twenty lines a run on stderr, where no progress bar can be drawn."""

    def __init__(self, curves: CurveLogger) -> None:
        self.curves = curves
        self.shown = curves.first_epoch - 1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.shown = max(self.curves.rows, default=self.shown)  # a resumed run's epochs were shown before

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # an epoch's own metrics reach the logger after all hooks of its end
        self._show(trainer, every=max((trainer.max_epochs or 0) // 20, 1))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, every=1)

    def _show(self, trainer: pl.Trainer, every: int) -> None:
        last = max(self.curves.rows, default=-1)
        if last <= self.shown or (last + 1 - self.curves.first_epoch) % every:
            return
        self.shown = last
        values = "  ".join(f"{name} {value:.4g}" for name, value in sorted(self.curves.rows[last].items()))
        sys.stderr.write(f"epoch {last + 1 - self.curves.first_epoch}/{trainer.max_epochs}  {values}\n")


class KeptCurves(Callback):
    """The curves so far travel in the checkpoint, so that a resumed run writes whole ones."""

    def __init__(self, curves: CurveLogger) -> None:
        self.curves = curves

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["curves"] = self.curves.state()
