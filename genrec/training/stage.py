"""What every training stage does around its training: threads, seed, precision, scratch, curves, figures."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from genrec.errors import UserError
from genrec.layers.processes import end_others, trains_alone
from genrec.storage.checkpoint import Saveable, save_model
from genrec.storage.output import write_metrics
from genrec.training.base import check_gpus
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger, Listener, write_curves
from genrec.training.precision import precision_figure, processor_figure, resolve_precision
from genrec.training.processes import fitness_of, start_processes, told_once
from genrec.training.scratch import scratch

if TYPE_CHECKING:
    from genrec.params.runtime import Runtime
    from genrec.params.trainer import Trainer

Config = TypeVar("Config", bound=TrainingConfig)


def processes_of_training(trainer: "Trainer") -> "Trainer":
    """With as many processes as share a training's batches; evaluations share users, which changes no byte."""
    return replace(trainer, devices=1) if trains_alone(trainer.portable, trainer.gpus) else trainer


def check_machine(name: str, trainer: "Trainer") -> None:
    """Refuse what a stage cannot train on: GPUs that are not there, or processes that are to be one or unfit for it.

    Raises:
        UserError: one of them.
    """
    n, started = trainer.devices * trainer.num_nodes, int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and processes_of_training(trainer) != trainer:
        raise UserError(
            f"{started} processes have been started (WORLD_SIZE), but where trainer.portable is true a training has "
            "the bytes of one; set trainer.portable to false to train by several"
        )
    fitness_of(name, n)
    check_gpus(trainer.gpus, "trainer.gpus", several=trainer.devices)


class TrainingStage:
    """A stage that trains; making it sets the threads and seeds torch.

    Args:
        name: of the stage, such as `train_tiger`.
        listener: is told of each epoch's figures while it trains.
        prefix: stands before the names of its figures, where a stage trains several models.

    Attributes:
        precision: what `trainer.precision` means on this machine.
        logger: collects the curves.
    """

    def __init__(
        self, name: str, trainer: "Trainer", runtime: "Runtime", seed: int, listener: Listener, prefix: str = ""
    ) -> None:
        check_machine(name, trainer)
        torch.set_num_threads(trainer.num_threads)
        torch.manual_seed(seed)
        self.name = name
        self.trainer = processes_of_training(trainer)
        self.progress_bar = runtime.progress_bar
        self.seed = seed
        self.precision = resolve_precision(trainer.precision, trainer.gpus, trainer.portable)
        self.logger = CurveLogger(listener, prefix=prefix)

    @contextmanager
    def scratch(self, settings: Sequence[Any], inputs: Sequence[Path], part: str = "") -> Iterator[Path]:
        """The folder of its checkpoints, named by all that shapes the result; see `genrec.training.scratch`.

        Args:
            settings: the sections that the stage reads beside `trainer`.
            inputs: the files that it reads.
            part: which of several trainings of the stage.
        """
        trainer = self.trainer
        start_processes(trainer.devices, trainer.num_nodes, trainer.gpus, may_fork=True)
        torch.set_num_threads(trainer.num_threads)  # Lightning sets another where OMP_NUM_THREADS is not
        # another number of processes learns from the same batches, so it may go on
        one = replace(trainer, gpus=min(trainer.gpus, 1), devices=1, num_nodes=1, strategy="auto")
        with scratch(self.name, [*settings, one, self.precision, self.seed, part], inputs) as folder, told_once(folder):
            yield folder

    @staticmethod
    def end_others() -> None:
        """End all processes but the first, which writes what they have trained together."""
        end_others()

    def config(self, kind: type[Config], folder: Path, **own: Any) -> Config:
        """A trainer's config: what all stages have in common, and this one's own."""
        return kind(
            experiment_name=self.name,
            gpus=self.trainer.gpus,
            devices=self.trainer.devices,
            num_nodes=self.trainer.num_nodes,
            precision=self.precision,
            random_seed=self.seed,
            progress_bar=self.progress_bar,
            checkpoint_dir=str(folder),
            resume=True,
            **own,
        )

    def write(self, model: Saveable, file: Path, curves: Path, metrics: Path, figures: Mapping[str, Any]) -> None:
        """Write the trained model, its curves, and its figures with what it was trained on."""
        save_model(model, file)
        self.write_figures(self.logger.rows, curves, metrics, figures)

    def write_figures(
        self, rows: Mapping[int, Mapping[str, float]], curves: Path, metrics: Path, figures: Mapping[str, Any]
    ) -> None:
        """Write curves, and figures with the precision that `auto` came to, and whether the processor was portable."""
        write_curves(rows, curves)
        machine = {**precision_figure(self.trainer.precision, self.precision), **processor_figure()}
        write_metrics({**figures, **machine}, metrics)
