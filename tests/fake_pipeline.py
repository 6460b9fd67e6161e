"""A folder as a pipeline leaves it before `track`, for the tests of what reads and publishes it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec.params.reading import read_params
from genrec.pipeline.state import State

PROJECT = Path(__file__).parents[1]
FIGURES: dict[str, Any] = {"test": {"recall_at_10": 0.25, "protocol": "full ranking"}, "n_users": 300}
CURVE = [0.1, 0.2, 0.3]


def lock_text(code_num: int, model_hash: str) -> str:
    return f"""\
schema: '2.0'
stages:
  prepare_data:
    cmd: python -m stages.prepare_data
    outs:
    - path: data/prepared
      hash: md5
      md5: {"d" * 32}.dir
  train_tiger:
    cmd: python -m stages.train_tiger
    params:
      params.yaml:
        model.code_num: {code_num}
    outs:
    - path: data/tiger
      hash: md5
      md5: '{model_hash}'
    - path: reports/train_tiger/history.csv
      hash: md5
      md5: {"e" * 32}
"""


PIPELINE = """\
stages:
  prepare_data:
    cmd: python -m stages.prepare_data
  train_tiger:
    cmd: python -m stages.train_tiger
  track:
    cmd: python -m stages.track
"""


@dataclass(frozen=True)
class Pipeline:
    """A folder as a pipeline leaves it before `track`."""

    folder: Path

    def write(self, code_num: int = 64, curve: Sequence[float] = CURVE, figures: Mapping[str, Any] = FIGURES) -> None:
        self.set_param("code_num", str(code_num))
        (self.folder / "dvc.yaml").write_text(PIPELINE)
        (self.folder / "dvc.lock").write_text(lock_text(code_num, model_hash=f"{code_num:032d}"))
        reports = {name: self.folder / "reports" / name for name in ("train_tiger", "evaluate_tiger")}
        for report in reports.values():
            report.mkdir(parents=True, exist_ok=True)
        rows = [f"{epoch},{1 / epoch:.6g},{value:.6g}" for epoch, value in enumerate(curve, start=1)]
        # an epoch that was not validated
        rows.append(f"{len(curve) + 1},0.5,")
        header = "epoch,train_loss,val_ndcg_at_10"
        (reports["train_tiger"] / "history.csv").write_text("\n".join([header, *rows]) + "\n")
        (reports["evaluate_tiger"] / "metrics.json").write_text(json.dumps(figures))
        (self.folder / "reports" / "results.md").write_text("| model | recall_at_10 |\n")

    def set_param(self, key: str, value: str) -> None:
        file = self.folder / "params.yaml"
        file.write_text(re.sub(rf"\b{key}: .*", f"{key}: {value}", file.read_text(), count=1))
        read_params.cache_clear()

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=f"sqlite:///{self.folder / 'mlflow.db'}")

    def runs(self) -> list[Any]:
        """All that the UI shows, the oldest first."""
        experiment = self.client.get_experiment_by_name("genrec")
        order = ["attributes.start_time ASC"]
        return list(self.client.search_runs([experiment.experiment_id], order_by=order)) if experiment else []

    def run(self) -> Any:
        (only,) = self.runs()
        return only

    def points(self, run: Any, name: str) -> list[tuple[int, float]]:
        return sorted((point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, name))

    def state(self) -> State:
        return State.read(self.folder, read_params())


def start_python(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command, environment = [sys.executable, *arguments], {**os.environ, "PYTHONPATH": str(PROJECT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@x", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
