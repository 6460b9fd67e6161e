"""`dvc repro` itself: killed and run again, elsewhere, under other settings, with many workers, without its store."""

import os
import random
import signal
import subprocess
import time

import pytest
from test_pipeline import Project, clone

pytestmark = pytest.mark.faults

SEED = 11
SMALL: dict[str, object] = {
    "fetch_data.name": "synthetic",
    "fetch_data.synthetic.n_users": 60,
    "fetch_data.synthetic.n_items": 40,
    "model.code_num": 16,
    "train_sasrec.max_epochs": 6,
    "train_rqvae.max_epochs": 10,
    "train_rqvae.gates.min_usage": 0.0,
    "train_rqvae.gates.min_entropy": 0.0,
    "train_rqvae.gates.max_collision_rate": 1.0,
    "train_tiger.max_epochs": 2,
    "train_etegrec.cycle": 2,
    "train_etegrec.max_epochs": 4,
    "train_etegrec.warmup_epochs": 1,
    "train_etegrec.final_stage.max_epochs": 2,
    "train_two_tower.max_epochs": 1,
    "generate_candidates.n_candidates": 10,
    "train_ranker.max_epochs": 1,
    "evaluate.bootstrap_samples": 20,
}
ELSEWHERE = {
    "PYTHONHASHSEED": "4711",
    "TZ": "Asia/Kathmandu",
    "LC_ALL": "C",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
    "COLUMNS": "40",
}
KILLED = ["train_sasrec", "train_etegrec", "evaluate_tiger"]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """An uninterrupted `dvc repro` in another folder, with other hashes of strings, another locale and time zone."""
    project = clone(tmp_path_factory.mktemp("another") / "füll path", **SMALL)
    project.environment |= ELSEWHERE
    project.dvc("repro")
    return project


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[str]]:
    """A `dvc repro` that was killed again and again, and then run to its end; what each attempt said."""
    project = clone(tmp_path_factory.mktemp("killed") / "genrec", **SMALL)
    draw = random.Random(SEED)
    said = [kill_in(project, stage, draw.uniform(0, 2)) for stage in KILLED]
    return project, [*said, project.dvc("repro")]


def kill_in(project: Project, stage: str, seconds: float) -> str:
    """Start `dvc repro`, and kill it with all its processes so many seconds into the work of a stage."""
    log = project.folder.parent / "log"
    with log.open("w") as stream:
        running = subprocess.Popen(
            ["dvc", "repro"], cwd=project.folder, env=project.environment, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
        while f"Running stage '{stage}'" not in log.read_text() and running.poll() is None:
            time.sleep(0.05)
        scratch = project.folder / ".genrec/scratch"
        while (
            stage.startswith("train_") and running.poll() is None and not list(scratch.glob(f"{stage}-*/**/last.ckpt"))
        ):
            time.sleep(0.01)
        if stage.startswith("train_"):
            seconds /= 10
        time.sleep(seconds)
        assert running.poll() is None, log.read_text()
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    return log.read_text()


@pytest.mark.fault("kill -9 of dvc repro")
def test_a_killed_repro_ends_with_the_lock_of_an_uninterrupted_one(
    request: pytest.FixtureRequest, killed: tuple[Project, list[str]], elsewhere: Project
) -> None:
    request.node.user_properties.append(("tries", len(KILLED)))
    project, said = killed
    assert (project.folder / "dvc.lock").read_bytes() == (elsewhere.folder / "dvc.lock").read_bytes()
    assert "resuming train_sasrec after epoch" in said[1]
    assert "resuming train_etegrec after" in said[2]
    assert "Running stage 'train_" not in said[3]


@pytest.mark.fault("another folder, hash seed, locale and time zone")
def test_no_setting_of_the_machine_changes_a_byte(killed: tuple[Project, list[str]], elsewhere: Project) -> None:
    reports = [file.relative_to(elsewhere.folder) for file in (elsewhere.folder / "reports").rglob("*.*")]
    assert len(reports) > 10
    for file in reports:
        assert (killed[0].folder / file).read_bytes() == (elsewhere.folder / file).read_bytes()


@pytest.mark.fault("kill -9 of dvc repro")
def test_after_kills_the_store_holds_one_finished_run_and_none_that_runs(killed: tuple[Project, list[str]]) -> None:
    assert [run["status"] for run in killed[0].runs()] == ["FINISHED"]


@pytest.mark.fault("MLflow unreachable during dvc repro")
def test_an_unreachable_store_costs_no_result_and_the_next_repro_publishes(elsewhere: Project) -> None:
    lock = (elsewhere.folder / "dvc.lock").read_bytes()
    elsewhere.set(**{"train_sasrec.max_epochs": 5})
    elsewhere.environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    elsewhere.environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    said = elsewhere.dvc("repro", "train_sasrec") + elsewhere.dvc("repro", "track", expect=None)
    del elsewhere.environment["MLFLOW_TRACKING_URI"]
    assert said.count("warning: no more live curves of train_sasrec") == 1
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert errors == [line for line in errors if "MLflow at http://127.0.0.1:9 failed" in line]
    assert len(errors) == 1
    assert "Traceback" not in said
    again = elsewhere.dvc("repro")
    assert "Running stage 'train_" not in again
    assert "FINISHED" in {run["status"] for run in elsewhere.runs()}
    assert (elsewhere.folder / "dvc.lock").read_bytes() != lock


@pytest.mark.fault("four queue workers on a store that does not exist")
def test_four_workers_publish_into_a_store_that_does_not_exist(
    request: pytest.FixtureRequest, killed: tuple[Project, list[str]]
) -> None:
    request.node.user_properties.append(("tries", 4))
    project = killed[0]
    project.commit()
    for file in project.folder.glob("mlflow.db*"):
        file.unlink()
    project.dvc("exp", "run", "--queue", "-S", "evaluate.bootstrap_samples=5,6,7,8", "-n", "worker")
    project.dvc("queue", "start", "-j", "4")
    deadline = time.monotonic() + 500
    while project.dvc("queue", "status").count("Success") < 4 and time.monotonic() < deadline:
        time.sleep(5)
    runs = project.runs()
    assert sorted(str(run["name"]) for run in runs) == [f"worker-{number}" for number in (1, 2, 3, 4)]
    assert {run["status"] for run in runs} == {"FINISHED"}
    assert {dict(run["params"])["evaluate.bootstrap_samples"] for run in runs} == {"5", "6", "7", "8"}
