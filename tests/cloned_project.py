"""A clone of the project for the tests that run DVC and MLflow as a user does."""

import json
import os
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "fetch_data.name": "synthetic",
    "model.code_num": 16,
    "train_sasrec.max_epochs": 30,
    "train_sasrec.patience": 30,
    "train_rqvae.max_epochs": 10,
    "train_rqvae.gates.min_usage": 0.5,
    "train_rqvae.gates.min_entropy": 0.5,
    "train_tiger.max_epochs": 1,
    "train_etegrec.cycle": 2,
    "train_etegrec.max_epochs": 2,
    "train_etegrec.warmup_epochs": 0,
    "train_etegrec.final_stage.max_epochs": 1,
    "train_two_tower.max_epochs": 1,
    "build_digits.embedding_digits": 8,
    "build_digits.code_num": 16,
    "build_digits.gates.min_usage": 0.0,
    "build_digits.gates.min_entropy": 0.0,
    "build_digits.gates.max_collision_rate": 1.0,
    "train_parallel.max_epochs": 2,
    "generate_candidates.n_candidates": 20,
    "train_ranker.max_epochs": 2,
    "evaluate.bootstrap_samples": 20,
}


class Project:
    """A clone of the working tree, with its own git history, cache and MLflow store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
        self.environment = {**inherited, "PATH": path, "DO_NOT_TRACK": "true"}

    def run(self, *command: str, expect: int | None = 0) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        assert expect is None or done.returncode == expect, output
        return output

    def dvc(self, *arguments: str, expect: int | None = 0) -> str:
        return self.run("dvc", *arguments, expect=expect)

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "state", expect=None)

    def set(self, **values: object) -> None:
        """Write dotted keys into params.yaml."""
        editor, file = YAML(), self.folder / "params.yaml"
        content = editor.load(file)
        for name, value in values.items():
            *sections, key = name.split(".")
            section = content
            for each in sections:
                section = section[each]
            section[key] = value
        editor.dump(content, file)

    def metrics(self, stage: str) -> dict[str, object]:
        content: dict[str, object] = json.loads((self.folder / f"reports/{stage}/metrics.json").read_text())
        return content

    def runs(self) -> list[dict[str, object]]:
        """What MLflow holds: status, number of parameters, value of model.code_num, metric names of each run."""
        script = (
            "import json, mlflow; client = mlflow.MlflowClient('sqlite:///mlflow.db');"
            "ids = [e.experiment_id for e in client.search_experiments()];"
            "print(json.dumps([dict(status=r.info.status, name=r.info.run_name, params=r.data.params,"
            " metrics=sorted(r.data.metrics)) for r in client.search_runs(ids)]))"
        )
        found: list[dict[str, object]] = json.loads(self.run(sys.executable, "-c", script).splitlines()[-1])
        return found


def clone(folder: Path, **values: object) -> Project:
    """A committed copy of the working tree, without results, with values of its own in params.yaml."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        is_result = name.startswith("reports/") and name != "reports/new_items.json"  # which no stage writes
        if (ROOT / name).exists() and not is_result and Path(name).name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    project = Project(folder)
    project.run("git", "init", "-q")
    project.run("git", "config", "user.name", "test")
    project.run("git", "config", "user.email", "test@example.org")
    project.set(**values)
    project.commit()
    return project
