"""The whole pipeline as a user runs it: DVC, MLflow and all, on small synthetic data in a clone of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.pipeline

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
    "generate_candidates.n_candidates": 20,
    "train_ranker.max_epochs": 2,
    "evaluate.bootstrap_samples": 20,
}
GENERATORS = ["etegrec", "tiger", "two_tower"]
MODELS = sorted(["item_knn", "popularity", "sasrec", *GENERATORS, *(f"{name}_ranked" for name in GENERATORS)])


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
        if (ROOT / name).exists() and not name.startswith("reports/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    project = Project(folder)
    project.run("git", "init", "-q")
    project.run("git", "config", "user.name", "test")
    project.run("git", "config", "user.email", "test@example.org")
    project.set(**values)
    project.commit()
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after one `dvc repro`."""
    project = clone(tmp_path_factory.mktemp("clone") / "genrec", **SMALL)
    project.dvc("repro")
    project.commit()
    return project


def test_all_models_stand_in_the_table_of_results(project):
    results = json.loads((project.folder / "reports/results.json").read_text())
    page = (project.folder / "reports/results.md").read_text()
    assert sorted(results) == MODELS
    assert page.count("| TIGER |") == 4  # test and validation, history kept and excluded
    assert page.count("| TIGER, ranked |") == 2  # rankers learned from validation
    values = results["tiger_ranked"]["values"]["test"]["kept"]
    assert values["recall_at_20"] == values["candidate_recall"]  # of twenty candidates, in any order
    low, high = results["tiger"]["intervals"]["test"]["kept"]["recall_at_10"]
    assert low <= results["tiger"]["values"]["test"]["kept"]["recall_at_10"] <= high


def test_a_second_run_executes_nothing_and_publishes_nothing(project):
    before = project.runs()
    output = project.dvc("repro")
    assert output.count("didn't change, skipping") == 18
    assert "already published" in output
    assert project.runs() == before
    assert project.run("git", "status", "--short") == ""


def test_the_run_in_mlflow_is_complete(project):
    run = project.runs()[0]
    assert run["status"] == "FINISHED"
    assert run["params"]["model.code_num"] == "16"
    assert {"train_tiger/val_ndcg_at_10", "evaluate_tiger/tiger/test/kept/recall_at_10"} <= set(run["metrics"])


def test_a_deleted_store_is_filled_again_without_any_training(project):
    (project.folder / "mlflow.db").unlink()
    output = project.dvc("repro")
    assert output.count("didn't change, skipping") == 18
    assert "train_tiger/val_ndcg_at_10" in project.runs()[0]["metrics"]


def test_one_parameter_reaches_tables_vocabularies_and_heads(project):
    project.dvc("exp", "run", "-n", "more-codes", "-S", "model.code_num=32")
    changed = project.run("git", "diff", "--stat", "params.yaml")
    table = np.load(project.folder / "data/code_table.npy")
    assert "1 insertion(+), 1 deletion(-)" in changed
    assert 16 <= table.max() < 32
    assert {run["params"]["model.code_num"] for run in project.runs()} == {"16", "32"}
    assert {run["status"] for run in project.runs()} == {"FINISHED"}
    project.run("git", "checkout", "-q", ".")
    assert "Data and pipelines are up to date." in project.dvc("checkout") + project.dvc("status", "report")


def test_fewer_levels_make_shorter_semantic_ids(project):
    fewer, tolerant = "model.num_levels=2", "train_rqvae.gates.max_collision_rate=1.0"
    project.dvc("exp", "run", "-n", "two-levels", "-S", fewer, "-S", tolerant)
    assert np.load(project.folder / "data/code_table.npy").shape[1] == 3
    project.run("git", "checkout", "-q", ".")
    project.dvc("checkout")


def test_other_list_lengths_rerun_only_what_measures(project):
    output = project.dvc("exp", "run", "-n", "ks", "-S", "evaluate.ks=[3,7]")
    assert "Running stage 'train_" not in output
    assert "recall_at_7" in project.metrics("evaluate_sasrec")["sasrec"]["test"]["kept"]
    project.run("git", "checkout", "-q", ".")
    project.dvc("checkout")


def test_what_can_not_change_a_result_reruns_nothing(project):
    output = project.dvc("exp", "run", "-n", "quiet", "-S", "runtime.progress_bar=false")
    assert "Running stage" not in output.replace("Running stage 'track'", "")
    project.run("git", "checkout", "-q", ".")


def test_a_typo_stops_the_pipeline_before_any_stage(project):
    file = project.folder / "params.yaml"
    text = file.read_text()
    file.write_text(text.replace("code_num:", "code_nun:"))
    output = project.dvc("repro", "-f", "prepare_data", expect=None)
    file.write_text(text)
    assert "unknown key 'model.code_nun'; did you mean 'model.code_num'?" in output
    assert "Traceback" not in output


def test_computing_everything_again_gives_the_same_bytes(project):
    lock = (project.folder / "dvc.lock").read_text()
    project.dvc("repro", "-f")
    assert (project.folder / "dvc.lock").read_text() == lock
    project.run("git", "checkout", "-q", ".")


def test_an_interrupted_training_goes_on_and_ends_with_the_same_bytes(project):
    lock = (project.folder / "dvc.lock").read_text()
    command = ["dvc", "repro", "-f", "-s", "train_sasrec"]
    killed = subprocess.Popen(command, cwd=project.folder, env=project.environment, start_new_session=True)
    scratch = project.folder / ".genrec/scratch"
    while killed.poll() is None and not list(scratch.glob("train_sasrec-*/last.ckpt")):
        time.sleep(0.005)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    output = project.run(*command)
    assert "resuming train_sasrec after epoch" in output
    assert (project.folder / "dvc.lock").read_text() == lock
