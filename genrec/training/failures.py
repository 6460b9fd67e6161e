"""Training that goes wrong ends at once, before the damage is saved, and says where it happened and what is left."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrec.errors import UserError
from genrec.layers.processes import n_processes, summed
from genrec.storage.checkpoint import write_checkpoint
from genrec.training.lightning import Callback, SIGTERMException, TorchCheckpointIO, pl
from genrec.training.lightning_internals import batch_in_progress, sums_of_epoch
from genrec.training.processes import is_first_to_tell, lost_processes_told
from genrec.training.sparse_rows import gradients_of

# of a process that SIGTERM ended
TERMINATED = 128 + 15
WAY_OUT = "lower the learning rate, or look for extreme values in what it learns from"


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints are written beside their place. Lightning writes them to the system's temporary folder, from which
    a move to another disk can be cut short."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        write_checkpoint(checkpoint, Path(path))


class FiniteTraining(Callback):
    """Refuses a loss term, a gradient or a validated metric that is NaN or infinite, before any weight is changed.

    Early stopping would end such a run as if all were well. A step takes about 1 % longer.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients_of(parameters))
        is_finite = bool(torch.isfinite(norm))  # of all processes or of none, since gradients are their mean
        sums = sums_of_epoch(trainer)
        terms = _not_finite(sums if is_finite else _of_all(sums))
        if terms:
            raise UserError(f"{' and '.join(terms)}; {WAY_OUT}")
        if not is_finite:
            names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
            worst = max(parameters, key=lambda p: _badness(p.grad))
            raise UserError(
                f"the gradient exploded, its norm is {float(norm)}, mostly in {names[id(worst)]}; {WAY_OUT}"
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        terms = _not_finite(trainer.callback_metrics)
        if terms:
            raise UserError(f"{' and '.join(terms)}; {WAY_OUT}")


@contextmanager
def failures_located(trainer: pl.Trainer, name: str, last_file: Path) -> Iterator[None]:
    """Put the epoch, the step and the last good checkpoint before what a `UserError` says.

    A termination (SIGTERM) is said too, and ends with its own status: Lightning would end with 0, as if all were done.
    Of several processes one says it.
    """
    try:
        with lost_processes_told():
            yield
        if trainer.received_sigterm:  # behind the last epoch Lightning no longer looks
            raise SIGTERMException
    except UserError as mistake:
        raise UserError(f"{name}: in {_place(trainer)}: {mistake} ({_what_is_left(last_file)})") from mistake
    except SIGTERMException:
        if is_first_to_tell(last_file.parent):
            sys.stderr.write(f"{name} was terminated in {_place(trainer)}; {_what_is_left(last_file)}\n")
        raise SystemExit(TERMINATED) from None


def _place(trainer: pl.Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1}, batch {batch_in_progress(trainer) + 1}, step {trainer.global_step + 1}"


def _what_is_left(last_file: Path) -> str:
    if not last_file.exists():
        return "no epoch was finished, so there is no checkpoint"
    content = torch.load(last_file, map_location="cpu", weights_only=True)
    best = [state["best_model_path"] for state in content["callbacks"].values() if state.get("best_model_path")]
    return f"the last good checkpoint is {(best or [last_file])[0]}, a run with other parameters leaves it alone"


def _of_all(values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Summed over the processes, so that all say the same of a training that has failed."""
    if n_processes() == 1 or not values:
        return values
    return dict(zip(values, summed(torch.stack([number.detach().double() for number in values.values()])), strict=True))


def _not_finite(values: Mapping[str, Tensor]) -> list[str]:
    """`name is value` of each that is NaN or infinite."""
    numbers = list(values.values())
    # a single comparison for all of them, as they nearly always are finite
    if not numbers or torch.isfinite(torch.stack([number.detach().double() for number in numbers])).all():
        return []
    return [f"{name} is {float(value)}" for name, value in values.items() if not torch.isfinite(value).all()]


def _badness(gradient: Tensor | None) -> float:
    """How large a gradient's largest element is; infinite where one is NaN."""
    assert gradient is not None
    gradient = gradient.coalesce().values() if gradient.is_sparse else gradient
    return float(gradient.abs().nan_to_num(nan=torch.inf).max())
