"""A trainer that makes its own loaders from one data set, trains, measures, and keeps the model's file."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, random_split

from genrec.storage.checkpoint import save_model
from genrec.training.base import BaseTrainer
from genrec.training.config import TrainingConfig
from genrec.training.lightning import Logger, pl

Loaders: TypeAlias = tuple[DataLoader[Any], DataLoader[Any], DataLoader[Any]]

WORTH_A_WORKER = 50_000  # samples: a process takes a second to start and reads a sample in microseconds


class EpochSampler(Sampler[int]):
    """All samples in an order that follows from (seed, epoch) alone, so that a resumed run goes on with its own."""

    def __init__(self, n_samples: int, seed: int) -> None:
        self.n_samples = n_samples
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_samples

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.n_samples).tolist())


def split_sizes(n_samples: int) -> tuple[int, int, int]:
    """Of a data set 80 % train, 10 % validate, the rest tests; of a tiny one at least one sample each.

    Raises:
        ValueError: fewer than 3 samples.

    Example:
        >>> split_sizes(101), split_sizes(9), split_sizes(3)
        ((80, 10, 11), (7, 1, 1), (1, 1, 1))
    """
    if n_samples < 3:
        raise ValueError(f"a data set to split must have at least 3 samples, got {n_samples}; give `train` loaders")
    n_validation = max(n_samples // 10, 1)
    n_train = min(n_samples * 8 // 10, n_samples - n_validation - 1)
    return n_train, n_validation, n_samples - n_train - n_validation


def workers_that_pay(n_samples: int, at_most: int, n_cores: int) -> int:
    """How many processes should read a data set; a small one is read sooner than the first would have started."""
    return min(n_samples // WORTH_A_WORKER, at_most, n_cores)


def _n_cores() -> int:
    """Those that this process may use, where the system says which."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class DatasetTrainer(BaseTrainer):
    """A `BaseTrainer` with a data set.

    Attributes:
        collate_fn: makes a batch of samples; None is torch's own way.
        results: what `train_model` measured at its end.
    """

    file_name = "model.ckpt"

    def __init__(
        self, model: pl.LightningModule, config: TrainingConfig, dataset: Dataset[Any], logger: Logger | None = None
    ) -> None:
        super().__init__(model, config, logger)
        self.dataset = dataset
        self.collate_fn: Callable[[list[Any]], Any] | None = None
        self.results: dict[str, float] = {}

    @property
    def file(self) -> Path:
        """Where `train_model` saves the model."""
        return Path(self.config.checkpoint_dir) / self.file_name

    def split(self) -> Sequence[Dataset[Any]]:
        """The samples to train on, to validate with and to test with: at random, by `config.random_seed`."""
        sizes = split_sizes(len(self.dataset))  # type: ignore[arg-type]
        return random_split(self.dataset, sizes, generator=torch.Generator().manual_seed(self.config.random_seed))

    def create_dataloaders(self) -> Loaders:
        """Loaders of the three parts; only training is shuffled, in another order each epoch."""
        train, validation, test = self.split()
        return self.loader(train, shuffle=True), self.loader(validation), self.loader(test)

    def loader(self, dataset: Dataset[Any], shuffle: bool = False) -> DataLoader[Any]:
        """Batches of a data set, with as many worker processes as pay for themselves, `config.num_workers` at most."""
        config, n_samples = self.config, len(dataset)  # type: ignore[arg-type]
        num_workers = workers_that_pay(n_samples, config.num_workers, _n_cores())
        return DataLoader(
            dataset,
            batch_size=config.batch_size,
            sampler=EpochSampler(n_samples, config.random_seed) if shuffle else None,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            collate_fn=self.collate_fn,
            pin_memory=bool(config.gpus),
        )

    def train_model(self) -> pl.LightningModule:
        """Split, train, save the best weights as `file_name`, and measure what the config asks for.

        Returns:
            The model with its best weights; what was measured is in the logger, as `test_*`, and in `results`.
        """
        train_loader, val_loader, test_loader = self.create_dataloaders()
        self.train(train_loader, val_loader)
        save_model(self.model, self.file)
        self.results = self.test(test_loader) if self.config.run_test else {}
        figures = self.figures(test_loader)
        self._log_results(figures)
        self.results |= figures
        return self.model

    def _log_results(self, figures: dict[str, float]) -> None:
        assert self.trainer is not None
        # with the epoch, as Lightning itself logs, for loggers that keep rows by epoch
        # and without the @ of `recall@5`, which MLflow refuses
        measured = {f"test_{name.replace('@', '_at_')}": value for name, value in figures.items()}
        row = measured | {"epoch": self.trainer.current_epoch}
        self.logger.log_metrics(row, step=self.trainer.global_step)
        self.logger.finalize("success")  # TensorBoard's keeps them in memory until then

    def figures(self, test_loader: DataLoader[Any]) -> dict[str, float]:
        """What else to measure at the end, beside the model's own test step."""
        return {}
