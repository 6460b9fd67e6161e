"""Trials as DVC's experiments: its queue runs them, git holds their figures, MLflow shows them as one group."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from genrec.errors import UserError
from genrec.pipeline.state import numbers
from genrec.pipeline.tracking import record_trial
from genrec.search.space import Space, Value, overrides
from genrec.search.study import Outcome

SECONDS_BETWEEN_STATUS = 15.0
FAILED, ON_ITS_WAY = "Failed", ("Queued", "Running")


@dataclass
class DvcQueue:
    """A `Runner` that queues `dvc exp run` for the stage of the objective, and all before it.

    Attributes:
        group: the experiment of MLflow that the trials' runs stand in.
        n_jobs: how many of DVC's workers run at once.
    """

    folder: Path
    space: Space
    group: str
    n_jobs: int
    _status: dict[str, str] = field(default_factory=dict)
    _asked_at: float = -SECONDS_BETWEEN_STATUS

    def submit(self, name: str, values: Mapping[str, Value]) -> None:
        group = overrides({"track.experiment": self.group})
        self._run("dvc", "exp", "run", "--queue", "--name", name, *group, *overrides(values), self.space.stage)
        self.start()
        self._asked_at = -SECONDS_BETWEEN_STATUS

    def start(self) -> None:
        """Start workers as there are jobs; those that run already stay."""
        # not to be waited for by its output, which the workers keep open
        command = self._command("dvc", "queue", "start", "-j", str(self.n_jobs))
        started = subprocess.run(
            command, cwd=self.folder, env=self._environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
        if started.returncode:
            raise UserError("`dvc queue start` failed; run it by hand to see why")

    def on_its_way(self, name: str) -> bool:
        if self._reference(name) is not None:
            return True
        known = self._statuses(at_once=True).get(name) in (*ON_ITS_WAY, FAILED)
        if known:
            self.start()
        return known

    def outcome(self, name: str) -> Outcome | None:
        reference = self._reference(name)
        if reference is not None:
            return self._measured(reference)
        status = self._statuses().get(name)
        if status == FAILED:
            return Outcome(None, f"its stages failed, `dvc queue logs {name}` shows how")
        if status in ON_ITS_WAY:
            return None
        reference = self._reference(name)  # it may have ended since
        return Outcome(None, "it is no longer in DVC's queue") if reference is None else self._measured(reference)

    def record(self, name: str, values: Mapping[str, Value], outcome: Outcome) -> None:
        figures = {} if outcome.value is None else {self.space.objective: outcome.value}
        try:
            record_trial(self.folder, self.group, name, values, figures)
        except UserError as trouble:
            sys.stderr.write(f"warning: {name} is not shown in MLflow; {trouble}\n")

    def _measured(self, reference: str) -> Outcome:
        file = f"reports/{self.space.stage}/metrics.json"
        try:
            figures = dict(numbers(json.loads(self._run("git", "show", f"{reference}:{file}"))))
        except UserError:
            return Outcome(None, f"its experiment holds no {file}")
        if self.space.figure not in figures:
            return Outcome(None, f"{file} has no {self.space.figure}, but {', '.join(figures)}")
        return Outcome(figures[self.space.figure])

    def _reference(self, name: str) -> str | None:
        """The git reference of an experiment that has ended well."""
        found = self._run("git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}")
        return next(iter(found.split()), None)

    def _statuses(self, at_once: bool = False) -> dict[str, str]:
        """Name to status of what DVC's queue knows; asked seldom, since it takes DVC a second or two to say so."""
        if at_once or time.monotonic() - self._asked_at > SECONDS_BETWEEN_STATUS:
            lines = self._run("dvc", "queue", "status").splitlines()
            rows = [re.fullmatch(r"\S+\s+(\S+)\s.*\s(\w+)\s*", line) for line in lines]
            self._status = {row[1]: row[2] for row in rows if row}
            self._asked_at = time.monotonic()
        return self._status

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            self._command(*command), cwd=self.folder, env=self._environment(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise UserError(f"`{' '.join(command[:3])}` failed: {said[-1] if said else done.returncode}")
        return done.stdout

    @staticmethod
    def _command(*command: str) -> list[str]:
        return [sys.executable, "-m", *command] if command[0] == "dvc" else list(command)

    @staticmethod
    def _environment() -> dict[str, str]:
        """DVC starts its workers and stages by name: they must be this environment's."""
        return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
