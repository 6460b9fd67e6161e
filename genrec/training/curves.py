"""Training curves as rows, one an epoch: written as a plot for DVC, passed on while training to whoever listens."""

import csv
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from genrec.storage.files import written
from genrec.training.lightning import Logger, rank_zero_only

Listener = Callable[[int, Mapping[str, float]], None]


class CurveLogger(Logger):
    """Collects what Lightning logs at the end of each epoch.

    Attributes:
        prefix: stands before each metric's name, where several models share a file of curves.
        rows: epoch to metric names and values.
    """

    def __init__(self, listener: Listener | None = None, first_epoch: int = 0, prefix: str = "") -> None:
        super().__init__()
        self.listener = listener
        self.first_epoch = first_epoch
        self.prefix = prefix
        self.rows: dict[int, dict[str, float]] = {}

    @property
    def name(self) -> str:
        return "curves"

    @property
    def version(self) -> int:
        return 0

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Hyper-parameters stand in params.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        values = {
            f"{self.prefix}{name}": float(value)
            for name, value in metrics.items()
            if name != "epoch" and name[:5] != "test_"
        }
        epoch = self.first_epoch + int(metrics["epoch"])
        self.rows.setdefault(epoch, {}).update(values)
        if self.listener is not None:
            self.listener(epoch, values)

    def summary(self, monitor: str, mode: str, first_epoch: int = 0) -> dict[str, float]:
        """The best value of a metric, as `best_<metric>`, and its epoch, counted from 0.

        Args:
            first_epoch: those before it are not asked, as where none of their states can have been kept.
        """
        measured = {epoch: row[monitor] for epoch, row in self.rows.items() if epoch >= first_epoch and monitor in row}
        epoch = (max if mode == "max" else min)(measured, key=lambda epoch: measured[epoch])
        return {f"best_{monitor}": measured[epoch], "best_epoch": epoch, "n_epochs": len(self.rows)}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to go on with the same curves."""
        return {str(epoch): dict(row) for epoch, row in self.rows.items()}

    def restore(self, state: Mapping[str, Mapping[str, float]]) -> None:
        self.rows = {int(epoch): dict(row) for epoch, row in state.items()}


def write_curves(rows: Mapping[int, Mapping[str, float]], file: Path) -> None:
    """A csv of one row an epoch, columns in order of their names, blank where an epoch did not measure a metric.

    Numbers keep 6 significant digits, so that the file shows no rounding noise.
    """
    names = sorted({name for row in rows.values() for name in row})
    with written(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["epoch", *names])
        for epoch, row in sorted(rows.items()):
            writer.writerow([epoch, *(f"{row[name]:.6g}" if name in row else "" for name in names)])
