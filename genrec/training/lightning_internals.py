"""All that reaches past the public hooks of Lightning and tensorboardX, for want of one; tried with Lightning 2.6."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from genrec.training.lightning import pl


def after_each_epoch(trainer: pl.Trainer, action: Callable[[], None]) -> None:
    """Let an action follow each whole epoch: the last hook runs before schedulers step and metrics are logged."""
    finish_epoch = trainer.fit_loop.on_advance_end

    def finish_and_act() -> None:
        finish_epoch()
        action()

    trainer.fit_loop.on_advance_end = finish_and_act  # type: ignore[method-assign]


def batch_in_progress(trainer: pl.Trainer) -> int:
    """The number of the epoch's batch that is at work, from 0."""
    return max(trainer.fit_loop.epoch_loop.batch_idx, 0)


def batches_read(trainer: pl.Trainer) -> int:
    """How many batches the fit has been given in all."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.ready)


def sums_of_epoch(trainer: pl.Trainer) -> Mapping[str, Tensor]:
    """The sums from which the epoch's means are made, by metric: not finite from the step on at which one is not."""
    results = trainer.fit_loop.epoch_loop._results
    return {metric.meta.name: metric.value for metric in results.values() if isinstance(metric.value, Tensor)}


def only_note_termination(trainer: pl.Trainer) -> None:
    """Let SIGTERM end the training of several processes after the batch: Lightning's handler sends to the others, in
    the middle of whatever they exchange. It asks before each batch whether the first has it, which `WholeBatches` asks
    with all else."""
    connector: Any = trainer._signal_connector

    def note(*signal: Any) -> None:
        connector.received_sigterm = True

    connector._sigterm_notifier_fn = note
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def name_next_file(tensorboard_writer: Any, suffix: str) -> None:
    """Let the writer's next file end so; it names files by the second, and empties one that it opens again."""
    tensorboard_writer._filename_suffix = suffix
