"""The one training loop: Lightning's, with the best weights kept, early stop, and a run that can be resumed."""

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from genrec.errors import UserError
from genrec.layers.processes import n_processes, of_the_first, process_rank, wait_for_all
from genrec.sequences.batches import SharedSampler
from genrec.storage.checkpoint import read_own_checkpoint, refuse_another_network
from genrec.training.callbacks import EpochLines, EpochSeed, KeptCurves, WholeBatches
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger
from genrec.training.failures import FiniteTraining, WholeCheckpoints, failures_located
from genrec.training.lightning import (
    Callback,
    DDPStrategy,
    EarlyStopping,
    Logger,
    ModelCheckpoint,
    TensorBoardLogger,
    pl,
)
from genrec.training.lightning_internals import after_each_epoch, batches_read, name_next_file, only_note_termination
from genrec.training.precision import BFLOAT16, Bfloat16
from genrec.training.processes import fitness_of, start_processes
from genrec.training.products import multiply_portably

HARMLESS_WARNINGS = (
    ".*does not have many workers.*",  # batches are built by whole-array indexing: workers would only copy them
    ".*exists and is not empty.*",  # the checkpoints of the run that is resumed
    ".*LeafSpec.*",  # Lightning's own use of a deprecated torch function
    ".*`training_step` returned `None`.*",  # a batch with nothing to learn from
    ".*recommended to use `self.log.*sync_dist=True.*",  # figures that all processes compute alike
    ".*`broadcast_buffers` is deprecated.*",  # what replaces it, torch 2.6 does not know
    ".*but have no `val_dataloader`.*",  # a model that can validate need not
)


class SeparateTensorBoardFiles(TensorBoardLogger):
    """A file for each fit and test: tensorboardX names files by the second and empties one that it opens again."""

    n_closed = 0

    def finalize(self, status: str) -> None:
        super().finalize(status)
        self.n_closed += 1
        name_next_file(self.experiment, f".{self.n_closed}")


class BaseTrainer:
    """Trains a LightningModule as a config says; afterwards the model has its best weights."""

    def __init__(self, model: pl.LightningModule, config: TrainingConfig, logger: Logger | None = None) -> None:
        self.model = model
        self.config = config
        self.logger = self._create_default_logger() if logger is None else logger
        self.trainer: pl.Trainer | None = None

    def _create_default_logger(self) -> Logger:
        return SeparateTensorBoardFiles(
            save_dir=self.config.log_dir, name=self.config.experiment_name, version=self.config.version
        )

    def setup_trainer(self) -> None:
        """Build Lightning's trainer from the config as `self.trainer`; seeds all random numbers.

        `train` and `test` do so themselves. What is changed on `self.trainer` before `train` holds for that training.
        """
        config = self.config
        multiply_portably()
        check_gpus(config.gpus, several=config.devices)
        n_together = config.devices * config.num_nodes
        fitness = fitness_of(type(self.model).__name__, n_together)
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        pl.seed_everything(config.random_seed, workers=True, verbose=False)
        is_bfloat16 = config.precision == BFLOAT16
        self.trainer = pl.Trainer(
            accelerator="gpu" if config.gpus else "cpu",
            devices=config.gpus or config.devices,
            num_nodes=config.num_nodes,
            # buffers are not sent at each step: what changes them is computed alike in all processes
            strategy=DDPStrategy(find_unused_parameters=fitness.in_parts, broadcast_buffers=False)
            if fitness is not None and n_together > 1
            else "auto",
            max_epochs=config.max_epochs,
            precision=None if is_bfloat16 else config.precision,  # type: ignore[arg-type]
            # a model that steps its optimizers itself also clips for itself
            gradient_clip_val=config.gradient_clip_val if self.model.automatic_optimization else None,
            accumulate_grad_batches=config.accumulate_grad_batches,
            # a float: Lightning takes a whole number for batches
            val_check_interval=min(float(config.val_check_interval), 1.0),
            check_val_every_n_epoch=max(int(config.val_check_interval), 1),
            num_sanity_val_steps=0,
            callbacks=self._callbacks(),
            plugins=[WholeCheckpoints(), *([Bfloat16(config.gpus)] if is_bfloat16 else [])],
            logger=self.logger,
            deterministic=config.deterministic,
            enable_progress_bar=self._draws_progress(),
            enable_model_summary=False,
            log_every_n_steps=1,  # metrics are logged by epoch; more than an epoch's steps would only warn
            use_distributed_sampler=False,
        )
        self._save_after_each_epoch(self.trainer)
        if n_together > 1:
            only_note_termination(self.trainer)

    def train(self, train_dataloader: DataLoader[Any], val_dataloader: DataLoader[Any] | None = None) -> None:
        """Fit, from the last whole epoch of an interrupted run if the config says so; restore the best weights.

        A second call trains the same weights for `max_epochs` more. Without validation the last weights stay. A run
        that had ended is not trained again: the model gets the weights that it ended with.

        Raises:
            UserError: the run to resume trained another network.
            ValueError: a loader holds no batch.
        """
        check_loader(train_dataloader, "train_dataloader")
        if val_dataloader is not None:
            check_loader(val_dataloader, "val_dataloader")
        trainer = self._fresh_trainer()
        start_processes(self.config.devices, self.config.num_nodes, self.config.gpus)
        for loader in (train_dataloader, val_dataloader):
            check_shared(loader)
        last = self._last_checkpoint()
        if last is not None:
            refuse_another_network(self.model, last["state_dict"], self._last_file)
            if process_rank() == 0:
                sys.stderr.write(f"resuming {self.config.experiment_name} after epoch {last['epoch']}\n")
            if isinstance(self.logger, CurveLogger):
                self.logger.restore(last["curves"])
            sampler: Any = getattr(train_dataloader, "sampler", None)
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(last["epoch"])  # worker processes read ahead before Lightning tells it
        if last is not None and self._is_finished(last):
            self.model.load_state_dict(last["state_dict"], strict=True)
            self.model.on_load_checkpoint(last)
            self._restore_best()
        else:
            path = None if last is None else str(self._last_file)
            self.model.train()
            with self._quiet(), failures_located(trainer, self.config.experiment_name, self._last_file):
                trainer.fit(self.model, train_dataloader, val_dataloader, ckpt_path=path, weights_only=True)
            check_trained(trainer)
            if val_dataloader is not None:
                self._restore_best()
        wait_for_all()  # whoever comes first may remove the files

    def test(self, test_dataloader: DataLoader[Any]) -> dict[str, float]:
        """Lightning's test loop on the weights that the model has; {} when it logs nothing."""
        trainer = self.trainer or self._fresh_trainer()
        with self._quiet():
            results = trainer.test(self.model, test_dataloader, verbose=False)
        return dict(results[0]) if results else {}

    @staticmethod
    @contextmanager
    def _quiet() -> Iterator[None]:
        with warnings.catch_warnings():
            for harmless in HARMLESS_WARNINGS:
                warnings.filterwarnings("ignore", harmless)
            yield

    def _fresh_trainer(self) -> pl.Trainer:
        """The trainer that was set up, or a new one after a training: Lightning's counts its epochs once."""
        if self.trainer is None or self.trainer.state.fn is not None:
            self.setup_trainer()
        assert self.trainer is not None
        return self.trainer

    @property
    def _last_file(self) -> Path:
        return Path(self.config.checkpoint_dir) / "last.ckpt"

    def _last_checkpoint(self) -> dict[str, Any] | None:
        """What to go on from; of several processes one decides, since it removes what is damaged."""
        if n_processes() == 1:
            return self._own_last_checkpoint()
        is_there = of_the_first(lambda: self._own_last_checkpoint() is not None)
        return read_own_checkpoint(self._last_file) if is_there else None

    def _own_last_checkpoint(self) -> dict[str, Any] | None:
        if not self.config.resume:
            self._last_file.unlink(missing_ok=True)
        last = read_own_checkpoint(self._last_file)
        best = None if last is None else _best_file(last)
        # one that is absent gave way to a better one in the epoch that broke off, which is trained again
        is_damaged = best is not None and best.exists() and read_own_checkpoint(best) is None
        return None if is_damaged else last

    def _is_finished(self, last: dict[str, Any]) -> bool:
        """Whether the interrupted run had trained its last epoch, so that another would be one too many."""
        # not by its `stopped_epoch`: that is 0 both for a run that stopped in its first epoch and for one that did not
        stops = [state for state in last["callbacks"].values() if "patience" in state]
        stopped_early = any(state["wait_count"] >= state["patience"] for state in stops)
        return bool(stopped_early or last["epoch"] >= self.config.max_epochs)

    def _restore_best(self) -> None:
        """Give the model the weights of its best validation, as the last checkpoint names them."""
        best = _best_file(torch.load(self._last_file, map_location="cpu", weights_only=True))
        if best is None:
            return  # it ended before its first validation, or without one
        content = torch.load(best, map_location=self.model.device, weights_only=True)
        self.model.load_state_dict(content["state_dict"], strict=True)

    def _best_score(self) -> float | None:
        """The monitored metric of the epoch that `_restore_best` restores; None where none was validated."""
        state = _choice(torch.load(self._last_file, map_location="cpu", weights_only=True))
        return None if state["best_model_score"] is None else float(state["best_model_score"])

    def _save_after_each_epoch(self, trainer: pl.Trainer) -> None:
        """Write last.ckpt when an epoch is wholly over: schedulers step and metrics are logged after the last hook."""
        after_each_epoch(trainer, lambda: trainer.save_checkpoint(self._last_file))

    def _callbacks(self) -> list[Callback]:
        config = self.config
        callbacks: list[Callback] = [EpochSeed(config.random_seed), FiniteTraining()]
        if config.devices * config.num_nodes > 1:
            callbacks.append(WholeBatches())
        if isinstance(self.logger, CurveLogger):
            callbacks.append(KeptCurves(self.logger))
            if config.progress_bar and not self._draws_progress():
                callbacks.append(EpochLines(self.logger))
        return callbacks + self._selection()

    def _selection(self) -> list[Callback]:
        """What keeps the best weights and stops when they no longer improve; idle where nothing is validated."""
        config = self.config
        best = ModelCheckpoint(
            dirpath=config.checkpoint_dir,
            # a metric's name may hold a slash, which a file's may not
            filename=f"epoch={{epoch}}-{config.monitor.replace('/', '_')}={{{config.monitor}:.2f}}",
            auto_insert_metric_name=False,
            monitor=config.monitor,
            mode=config.monitor_mode,
            save_top_k=config.save_top_k,
            # right after it was validated: at an epoch's end a model may restart codes or rebuild tables
            save_on_train_epoch_end=False,
        )
        if config.early_stopping_patience == 0:
            return [best]
        # not strict: `best` already refuses a validation that does not log the metric
        stop = EarlyStopping(
            config.monitor, patience=config.early_stopping_patience, mode=config.monitor_mode, strict=False
        )
        return [best, stop]

    def _draws_progress(self) -> bool:
        """Of the pipeline's trainings a terminal alone draws bars; where there is none they write lines."""
        return self.config.progress_bar and (sys.stderr.isatty() or not isinstance(self.logger, CurveLogger))


def _best_file(last: Mapping[str, Any]) -> Path | None:
    """The checkpoint with the best weights, as the last one names it; None before the first validation."""
    best = _choice(last)["best_model_path"]
    return Path(best) if best else None


def _choice(last: Mapping[str, Any]) -> dict[str, Any]:
    """What the callback that keeps the best weights knew at the end of an epoch."""
    return next(state for state in last["callbacks"].values() if state.get("monitor"))


def check_loader(loader: Any, name: str) -> None:
    """Refuse a loader that is empty: Lightning would train nothing, and the start would be kept as the best model.

    Raises:
        ValueError: its length is 0.
    """
    has_length = hasattr(type(loader), "__len__") and not isinstance(getattr(loader, "dataset", None), IterableDataset)
    if has_length and len(loader) == 0:
        raise ValueError(
            f"{name} must hold batches, but it is empty: give rows, or no drop_last if they are fewer than a batch"
        )


def check_shared(loader: Any) -> None:
    """Refuse, for several processes, a loader that would give each of them the whole batches.

    Raises:
        UserError: its sampler is no `SharedSampler`.
    """
    sampler = getattr(loader, "sampler", None)
    if n_processes() > 1 and loader is not None and not isinstance(sampler, SharedSampler):
        raise UserError(
            f"{n_processes()} processes need loaders of genrec.sequences.batches, which give each its share of a batch;"
            f" this one's sampler is a {type(sampler).__name__}; set devices to 1"
        )


def check_trained(trainer: pl.Trainer) -> None:
    """Refuse what `check_loader` cannot see: a loader that knows no length and gave no batch.

    Raises:
        ValueError: no batch was read.
    """
    if batches_read(trainer) == 0 and trainer.max_epochs != 0:
        raise ValueError("train_dataloader must hold batches, but it gave none")


def check_gpus(gpus: int | list[int], name: str = "gpus", given: Any = None, several: int = 1) -> None:
    """Refuse GPUs that this machine does not have, and another number of them than of processes.

    Args:
        name, given: the argument or parameter that chose them, and its value; by default `gpus` itself.
        several: how many processes train together on this machine.

    Raises:
        UserError: there are fewer, or a process would have none or several.
    """
    shown = f"{name} is {gpus if given is None else given!r}"
    n = len(gpus) if isinstance(gpus, list) else gpus
    if n not in (0, several):
        raise UserError(
            f"{shown}, but a training runs on one GPU: several need a process each, and devices is {several}; choose "
            f"{'one' if several == 1 else several}, or none for the CPU"
        )
    needed = max(gpus, default=-1) + 1 if isinstance(gpus, list) else gpus
    found = torch.cuda.device_count() or torch.mps.device_count()
    if needed > found:
        raise UserError(f"{shown}, but torch finds {found} GPUs on this machine; choose one of them, or the CPU")
