"""What the pipeline costs beside its work: DVC over twelve stages that do nothing, and the start of real stages."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness import Case, Turn

PROJECT = Path(__file__).parents[1]
STAGES = 12
DVC = [sys.executable, "-m", "dvc"]


def repro(cold: bool) -> Turn:
    folder = Path(tempfile.mkdtemp(prefix="genrec-pipeline-"))
    run = partial(subprocess.run, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    stages = "".join(f"  stage{i}:\n    cmd: echo {i} > out{i}\n    outs: [out{i}]\n" for i in range(STAGES))
    (folder / "dvc.yaml").write_text(f"stages:\n{stages}")
    run(["git", "init", "--quiet"])
    run([*DVC, "init", "--quiet"])

    def turn() -> float:
        run([*DVC, "repro", "--quiet", *(["--force"] if cold else [])])
        return 1

    return turn


def start(stage: str) -> Turn:
    """Imports and all, until it has read its arguments."""

    def turn() -> float:
        command = [sys.executable, "-m", f"stages.{stage}", "--help"]
        subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL, env={**os.environ})
        return 1

    return turn


CASES = [
    Case("dvc repro, 12 stages", "runs", {"nothing to do": partial(repro, False), "all to do": partial(repro, True)}),
    Case(
        "start of a stage", "starts",
        {stage: partial(start, stage) for stage in ("prepare_data", "train_tiger", "evaluate", "report")},
    ),
]  # fmt: skip
