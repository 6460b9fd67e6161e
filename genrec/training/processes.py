"""What trains on several processes, how Lightning starts them, and an end of one that ends all and is told once."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.distributed import DistError

from genrec.errors import UserError
from genrec.layers.processes import n_processes
from genrec.training.lightning import Fabric
from genrec.training.scratch import TOLD


@dataclass(frozen=True)
class Fitness:
    """Whether a model, or a part of one, learns the same on several processes as on one.

    Attributes:
        stage: that trains it, without its prefix `train_`.
        model: the class of the Lightning module, or of a part that not each model of the stage has.
        why_not: empty where it does.
    """

    stage: str
    model: str
    why_not: str = ""


BATCH_NORM = (
    "its layers normalise by the mean and the variance of a batch, which on a CPU torch takes of each process's share"
)
FITNESS = (
    Fitness("sasrec", "SASRec"),
    Fitness("tiger", "Tiger"),
    Fitness("parallel", "Parallel"),
    Fitness("rqvae", "RqVae"),
    Fitness("rqvae", "EMAQuantizer", "its codes follow the mean of the inputs that a process has, not of all"),
    Fitness("rqvae", "SinkhornQuantizer", "it spreads the inputs that a process has over the codes, not all"),
    Fitness("etegrec", "ETEGRec", "its alignments compare all targets of a batch, of which a process has its share"),
    Fitness("two_tower", "MatchModule", BATCH_NORM),
    Fitness("ranker", "CTRModule", BATCH_NORM),
    Fitness("ranker", "MTLModule", BATCH_NORM),
)


def refuse_unfit(name: str, n: int, parts: Iterable[nn.Module] = ()) -> None:
    """Refuse several processes for what would learn something else on them, or is not known to learn the same.

    Args:
        name: of a stage, or of a module's class.
        n: how many processes are to train it together.
        parts: its modules, as far as they are known.

    Raises:
        UserError: the table does not say that it is fit.
    """
    found = [row for row in FITNESS if name in (f"train_{row.stage}", row.model)]
    kinds = {type(part).__name__ for part in parts}
    reason = found[0].why_not if found else "nothing is known of it"
    reason = reason or next((row.why_not for row in FITNESS if row.model in kinds and row.why_not), "")
    if n > 1 and reason:
        raise UserError(f"{name} cannot be trained by {n} processes: {reason}; set trainer.devices to 1")


def start_processes(devices: int, num_nodes: int, gpus: int | list[int]) -> None:
    """Start the other processes of this machine, or meet those that torchrun or SLURM has started.

    Each runs the program from its beginning, and waits here for all. Does nothing the second time, and alone.

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
    Fabric(accelerator=accelerator, devices=gpus or devices, num_nodes=num_nodes, strategy="ddp").launch()


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
