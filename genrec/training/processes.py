"""What trains on several processes, how Lightning starts them, and an end of one that ends all and is told once."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.distributed import DistError

from genrec.errors import UserError
from genrec.layers.forking import fork_others
from genrec.layers.processes import n_processes
from genrec.training.lightning import Fabric
from genrec.training.scratch import TOLD


@dataclass(frozen=True)
class Fitness:
    """A model that learns the same on several processes as on one, as tests/training/test_processes.py shows.

    Attributes:
        stage: that trains it, without its prefix `train_`.
        model: the class of the Lightning module.
        in_parts: a step may leave parameters without a gradient, so that DDP has to look which.
    """

    stage: str
    model: str
    in_parts: bool = False


FITNESS = (
    Fitness("sasrec", "SASRec"),
    Fitness("tiger", "Tiger"),
    Fitness("parallel", "Parallel"),
    Fitness("rqvae", "RqVae"),
    Fitness("etegrec", "ETEGRec", in_parts=True),
    Fitness("two_tower", "MatchModule"),
    Fitness("ranker", "CTRModule"),
    Fitness("ranker", "MTLModule", in_parts=True),
)


def fitness_of(name: str, n: int) -> Fitness | None:
    """The row of the table of a stage, or of a module's class; refuses several processes for what has none.

    Args:
        n: how many processes are to train it together.

    Raises:
        UserError: it is not known to learn the same on several.
    """
    found = next((row for row in FITNESS if name in (f"train_{row.stage}", row.model)), None)
    if n > 1 and found is None:
        raise UserError(
            f"{name} cannot be trained by {n} processes: it is not known to learn the same; set trainer.devices to 1"
        )
    return found


def start_processes(devices: int, num_nodes: int, gpus: int | list[int], may_fork: bool = False) -> None:
    """Start the other processes of this machine, or meet those that torchrun or SLURM has started.

    Each runs the program from its beginning, and waits here for all. Does nothing the second time, and alone.

    Args:
        may_fork: where all are on the CPUs of this machine, the others go on from here instead; for a program that
            knows what it has opened, since they have it too.

    Raises:
        UserError: others have been started, and one process is asked for.
    """
    n, started = devices * num_nodes, int(os.environ.get("WORLD_SIZE", "1"))
    if n == 1 and n_processes() == 1 and started > 1:
        raise UserError(
            f"torchrun has started {started} processes (WORLD_SIZE), but trainer.devices is 1: each would train "
            "alone and write the same files; set trainer.devices to the processes of a machine"
        )
    if n == 1 or n_processes() > 1:
        return
    for talkative in ("lightning_fabric", "pytorch_lightning"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    # it says which process ended, before it ends this one
    logging.getLogger("lightning_fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    accelerator = "gpu" if gpus else "cpu"
    fabric = Fabric(accelerator=accelerator, devices=gpus or devices, num_nodes=num_nodes, strategy="ddp")
    strategy: Any = fabric.strategy
    are_there = strategy.cluster_environment.creates_processes_externally
    if gpus or num_nodes > 1 or are_there or not (may_fork and fork_others(devices)):
        fabric.launch()


@contextmanager
def told_once(folder: Path) -> Iterator[None]:
    """Of processes that fail together, or one after the other, let the first say why.

    Args:
        folder: one for all of them.
    """
    try:
        with lost_processes_told():
            yield
    except UserError:
        if not is_first_to_tell(folder):
            raise SystemExit(1) from None
        raise


def is_first_to_tell(folder: Path) -> bool:
    """Whether no other process of this training has said why it ends; from now on one has."""
    if n_processes() == 1:
        return True
    try:
        (folder / TOLD).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@contextmanager
def lost_processes_told() -> Iterator[None]:
    """Say in one line that another process has ended, where torch would say that a connection was closed."""
    try:
        yield
    except RuntimeError as trouble:
        if n_processes() == 1 or not (isinstance(trouble, DistError) or "gloo" in str(trouble).lower()):
            raise
        raise UserError(
            f"another of the {n_processes()} processes that train together has ended; run again, which goes on after "
            "the last whole epoch"
        ) from trouble
