"""Trials as DVC's experiments: each runs in a folder of its own, git holds its figures, MLflow shows all as one group.

Not by DVC's queue: its workers end when they find it empty, and lose what is put there while they do.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from genrec.errors import UserError
from genrec.pipeline.state import numbers
from genrec.pipeline.tracking import record_trial
from genrec.search.space import Space, Value, overrides
from genrec.search.study import Outcome

LOCKED = "Unable to acquire lock"
"""What DVC says while another one sets up an experiment, and then ends."""


@dataclass
class Experiments:
    """A `Runner` by `dvc exp run --temp`, for the stage of the objective and all before it.

    Attributes:
        folder: the project.
        group: the experiment of MLflow that the trials' runs stand in.
        logs: the folder of what trials say, `<name>.log`.
    """

    folder: Path
    space: Space
    group: str
    logs: Path
    _running: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)
    _submitted: dict[str, Mapping[str, Value]] = field(default_factory=dict)

    def submit(self, name: str, values: Mapping[str, Value]) -> None:
        self._submitted[name] = values
        told = overrides({"track.experiment": self.group, **values})
        command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *told, self.space.stage]
        # DVC starts stages by `python`: it must be this environment's
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        with self._log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, "PATH": path}, stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def on_its_way(self, name: str) -> bool:
        """Whether it ended before it could be told; one that was stopped is not, and its trainings go on when it is
        submitted again."""
        return self._reference(name) is not None

    def outcome(self, name: str) -> Outcome | None:
        process = self._running.get(name)
        if process is not None and process.poll() is None:
            return None
        self._running.pop(name, None)
        reference = self._reference(name)
        if reference is not None:
            return self._measured(reference)
        if LOCKED in self._said(name):
            self.submit(name, self._submitted[name])
            return None
        return Outcome(None, self._problem(name))

    def record(self, name: str, values: Mapping[str, Value], outcome: Outcome) -> None:
        figures = {} if outcome.value is None else {self.space.objective: outcome.value}
        try:
            record_trial(self.folder, self.group, name, values, figures)
        except UserError as trouble:
            sys.stderr.write(f"warning: {name} is not shown in MLflow; {trouble}\n")

    def stop(self) -> None:
        """End what runs, with its stages."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def _measured(self, reference: str) -> Outcome:
        file = f"reports/{self.space.stage}/metrics.json"
        shown = self._git("show", f"{reference}:{file}")
        if shown is None:
            return Outcome(None, f"its experiment holds no {file}")
        figures = dict(numbers(json.loads(shown)))
        if self.space.figure not in figures:
            return Outcome(None, f"{file} has no {self.space.figure}, but {', '.join(figures)}")
        return Outcome(figures[self.space.figure])

    def _reference(self, name: str) -> str | None:
        """The git reference of an experiment that has ended well."""
        found = self._git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}")
        return next(iter((found or "").split()), None)

    def _problem(self, name: str) -> str:
        """What a stage said of a user's mistake, else the last line."""
        lines = [line.strip() for line in self._said(name).splitlines() if line.strip()]
        mistakes = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return f"{next(iter([*mistakes, *lines[-1:]]), 'it said nothing')} (all of it: {self._log(name)})"

    def _said(self, name: str) -> str:
        log = self._log(name)
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def _log(self, name: str) -> Path:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self.logs / f"{name}.log"

    def _git(self, *arguments: str) -> str | None:
        """What git says, None where it fails."""
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None
