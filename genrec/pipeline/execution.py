"""The `dvc repro` or `dvc exp run` that this process is part of, and which of its stages were really executed.

DVC tells a stage's process about itself in DVC_* variables. Every stage imports this file, so it imports little.
"""

import hashlib
import json
import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PUBLISHING = "tracking/dvc.yaml:publish"
"""The stage that `track` waits for, as DVC names it; see there."""


@dataclass(frozen=True)
class Execution:
    """Who runs this process.

    Attributes:
        root: the project; in the queue's temporary folders the one that the queue belongs to.
        experiment: the name that `dvc exp run` gave, None under `dvc repro`.
        baseline: the commit that the experiment started from.
    """

    root: Path
    experiment: str | None
    baseline: str | None

    @classmethod
    def current(cls) -> "Execution":
        environment = os.environ
        root = Path(environment.get("DVC_ROOT") or Path.cwd())
        return cls(root, environment.get("DVC_EXP_NAME"), environment.get("DVC_EXP_BASELINE_REV"))

    @property
    def name(self) -> str:
        """The experiment's name as a file's name and a tag may hold it; without an experiment "workspace".

        Example:
            >>> Execution(Path(), "wide+deep", None).name
            'wide_deep'
        """
        return re.sub(r"[^\w\-.]", "_", self.experiment or "workspace")

    @property
    def project_key(self) -> str:
        """Tells this folder on this machine from others that share a store of runs."""
        return hashlib.sha256(f"{platform.node()}:{self.root}".encode()).hexdigest()[:12]

    @property
    def tag(self) -> str:
        """The tag of the runs that show this experiment's state."""
        return f"dvc.exp.{self.name}"

    @property
    def live_key(self) -> str:
        """Tells the live run of this execution from those of others, and of other folders."""
        return f"{self.name}@{self.project_key}"

    @property
    def executed_file(self) -> Path:
        return self.root / ".genrec" / "executed" / f"{self.name}.jsonl"

    def executed(self) -> dict[str, float]:
        """The stages that were executed since the last publication, and their seconds."""
        if not self.executed_file.exists():
            return {}
        executed = {}
        for line in self.executed_file.read_text(encoding="utf-8").splitlines():
            # a full disk may have cut a line, and no duration is worth a pipeline's end
            with suppress(json.JSONDecodeError):
                entry = json.loads(line)
                executed[entry["stage"]] = entry["seconds"]
        return executed

    def forget_executed(self) -> None:
        self.executed_file.unlink(missing_ok=True)


def record_executed(seconds: float) -> None:
    """Note that DVC's current stage was executed and how long it took, for `publish`; no output of DVC may hold it.

    Does nothing outside of DVC, which names the stage in `DVC_STAGE`.
    """
    stage = os.environ.get("DVC_STAGE")
    if stage is None or stage in ("track", PUBLISHING):
        return
    file = Execution.current().executed_file
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"stage": stage, "seconds": round(seconds, 3)}) + "\n")
