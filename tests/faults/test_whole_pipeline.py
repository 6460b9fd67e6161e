"""`dvc repro` itself: killed and run again, elsewhere, under other settings, with many workers, without its store."""

import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_pipeline import Pipeline, start_python
from test_pipeline import Project, clone

from genrec.run_store import LOCK_OF_TRACK

# SQLAlchemy 2.1 about MLflow's own tables.
pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")]

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
    "train_ranker.max_epochs": 4,
    "train_ranker.patience": 4,
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
ONCE_MORE = {"PYTHONHASHSEED": "0", "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8"}
# whose appearance a kill waits for; ETEGRec has two phases
CHECKPOINTS = {"train_etegrec": ["joint/last.ckpt", "final/last.ckpt"]}


def locked_stages(project: Project) -> bytes:
    """What DVC locked of all stages but `track`."""
    return LOCK_OF_TRACK.sub(b"", (project.folder / "dvc.lock").read_bytes())


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Project]:
    """Two of the same working tree. Their names are ASCII, as DVC's queue asks for, and DVC under an ASCII locale."""
    folder = tmp_path_factory.mktemp("clones")
    return clone(folder / "one" / "a folder", **SMALL), clone(folder / "another" / "genrec", **SMALL)


@pytest.fixture(scope="module")
def elsewhere(clones: tuple[Project, Project]) -> tuple[Project, list[str]]:
    """An uninterrupted `dvc repro` in another folder, with other hashes of strings, another locale and time zone.

    Returns:
        The project, and its stages in the order in which they ran.
    """
    project = clones[0]
    project.environment |= ELSEWHERE
    return project, stages_in(project.dvc("repro"))


def stages_in(said: str) -> list[str]:
    return re.findall("Running stage '(.*?)'", said)


@dataclass(frozen=True)
class Kill:
    """One `dvc repro` that was killed.

    Attributes:
        stage: in which one, as its output tells.
        had_checkpoint: whether there was one to go on from.
    """

    stage: str
    had_checkpoint: bool
    said: str


@pytest.fixture(scope="module")
def killed(clones: tuple[Project, Project], elsewhere: tuple[Project, list[str]]) -> tuple[Project, list[Kill], str]:
    """A `dvc repro` that was killed in every stage, and then run to its end; and what that end said."""
    project, stages = clones[1], elsewhere[1]
    draw = random.Random(SEED)
    kills = []
    for turn, stage in enumerate(stages):
        for checkpoint in CHECKPOINTS.get(stage, ["last.ckpt" if stage.startswith("train_") else ""]):
            kills.append(kill_in(project, stages[turn:], checkpoint, draw.random()))
    return project, kills, project.dvc("repro")


def kill_in(project: Project, stages: list[str], checkpoint: str, share: float) -> Kill:
    """Start `dvc repro`, and kill it with all its processes in the first of the stages.

    In a training a moment after the checkpoint's appearance, else within the stage's first second.
    """
    log = project.folder.parent / "log"
    scratch, awaited = project.folder / ".genrec/scratch", f"{stages[0]}-*/**/{checkpoint}"
    with log.open("w") as stream:
        running = subprocess.Popen(
            ["dvc", "repro"], cwd=project.folder, env=project.environment, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
        # the last kill may have come when its stage had just ended, and this one runs
        wait_until(lambda: set(stages_in(log.read_text())) & set(stages) or running.poll() is not None, 0.05)
        if checkpoint:
            wait_until(lambda: list(scratch.glob(awaited)) or running.poll() is not None, 0.005)
        time.sleep(share / 20 if checkpoint else share)
        assert running.poll() is None, log.read_text()
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    said = log.read_text()
    stage = stages_in(said)[-1]
    return Kill(stage, any(scratch.glob(f"{stage}-*/**/last.ckpt")), said)


def wait_until(holds: Callable[[], object], pause: float, seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)


@pytest.mark.fault("kill -9 of dvc repro")
def test_a_killed_repro_ends_with_the_lock_of_an_uninterrupted_one(
    request: pytest.FixtureRequest,
    killed: tuple[Project, list[Kill], str],
    elsewhere: tuple[Project, list[str]],
) -> None:
    project, kills, end = killed
    request.node.user_properties.append(("tries", len(kills)))
    assert (project.folder / "dvc.lock").read_bytes() == (elsewhere[0].folder / "dvc.lock").read_bytes()
    later = [*(kill.said for kill in kills[1:]), end]
    for kill, said in zip(kills, later, strict=True):
        resumes = re.search(f"resuming {kill.stage}(/[a-z_]+)? after", said) is not None
        assert resumes == kill.had_checkpoint, f"{kill.said}\n{said}"
    resumed = [kill.stage for kill in kills if kill.had_checkpoint]
    assert resumed.count("train_etegrec") == 2
    assert {"train_sasrec", "train_tiger"} <= set(resumed)
    assert len({kill.stage for kill in kills}) > len(elsewhere[1]) / 2


@pytest.mark.fault("another folder, hash seed, locale and time zone")
def test_no_setting_of_the_machine_changes_a_byte(
    killed: tuple[Project, list[Kill], str], elsewhere: tuple[Project, list[str]]
) -> None:
    folder = elsewhere[0].folder
    reports = [file.relative_to(folder) for file in (folder / "reports").rglob("*.*")]
    assert len(reports) > 10
    for file in reports:
        assert (killed[0].folder / file).read_bytes() == (folder / file).read_bytes()


@pytest.mark.fault("dvc repro -f, under other settings again")
def test_computing_all_again_gives_the_same_lock(elsewhere: tuple[Project, list[str]]) -> None:
    project, stages = elsewhere
    lock = (project.folder / "dvc.lock").read_bytes()
    project.environment |= ONCE_MORE
    assert stages_in(project.dvc("repro", "-f")) == stages
    assert (project.folder / "dvc.lock").read_bytes() == lock
    assert [run["status"] for run in project.runs()] == ["FINISHED"]


@pytest.mark.fault("kill -9 of dvc repro")
def test_after_kills_the_store_holds_one_finished_run_and_none_that_runs(
    killed: tuple[Project, list[Kill], str],
) -> None:
    assert [run["status"] for run in killed[0].runs()] == ["FINISHED"]
    assert list(killed[0].folder.glob(".mlflow.db*")) == []


@contextmanager
def server(project: Project, port: int) -> Iterator[None]:
    """MLflow's own server on the project's database; at the end it is killed."""
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.1", port)), "another program listens there"
    command = [
        str(Path(sys.executable).with_name("mlflow")), "server", "--workers", "1", "--host", "127.0.0.1",
        "--port", str(port), "--backend-store-uri", f"sqlite:///{project.folder / 'mlflow.db'}",
    ]  # fmt: skip
    environment = {**project.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    del environment["MLFLOW_TRACKING_URI"]
    with (project.folder.parent / "server.log").open("w") as log:
        running = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(lambda: answers(port), 0.2)
            yield
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.fault("MLflow's server killed in the middle of a training")
def test_a_server_that_dies_costs_no_result_and_the_next_repro_publishes(
    elsewhere: tuple[Project, list[str]],
) -> None:
    project = elsewhere[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    project.set(**{"train_ranker.max_epochs": 60, "train_ranker.patience": 60})
    project.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    project.environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    log = project.folder.parent / "log"
    scratch = project.folder / ".genrec/scratch"
    with log.open("w") as stream:
        with server(project, port):
            running = subprocess.Popen(
                ["dvc", "repro"], cwd=project.folder, env=project.environment, stdout=stream, stderr=stream
            )
            wait_until(lambda: list(scratch.glob("train_ranker-*/**/last.ckpt")) or running.poll() is not None, 0.005)
        assert running.wait() != 0
    said = log.read_text()
    assert said.count("warning: no more live curves of train_ranker, the training goes on; MLflow at") == 1
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert f"MLflow at http://127.0.0.1:{port} failed" in error
    assert "no result is lost: `dvc repro` will publish it" in error
    assert "Traceback" not in said
    assert stages_in(said)[-1] == "track"
    locked = locked_stages(project)
    with server(project, port):
        assert stages_in(project.dvc("repro")) == ["track"]
    assert locked_stages(project) == locked
    del project.environment["MLFLOW_TRACKING_URI"]
    assert [run["status"] for run in project.runs()] == ["FINISHED", "FINISHED"]


@pytest.mark.fault("four queue workers on a store that does not exist")
def test_four_workers_train_and_publish_into_a_store_that_does_not_exist(
    request: pytest.FixtureRequest, killed: tuple[Project, list[Kill], str]
) -> None:
    request.node.user_properties.append(("tries", 4))
    project = killed[0]
    project.commit()
    database = project.folder / "mlflow.db"
    database.unlink()
    project.dvc("exp", "run", "--queue", "-S", "train_ranker.dropout=0.1,0.15,0.25,0.3", "-n", "worker")
    project.dvc("queue", "start", "-j", "4")
    # in this process: `dvc queue status` takes seconds
    wait_until(lambda: finished_in(database) == 4, 1, seconds=600)
    wait_until(lambda: project.dvc("queue", "status").count("Success") == 4, 5)
    runs = project.runs()
    assert sorted(str(run["name"]) for run in runs) == [f"worker-{number}" for number in (1, 2, 3, 4)]
    assert {run["status"] for run in runs} == {"FINISHED"}
    assert {dict(run["params"])["train_ranker.dropout"] for run in runs} == {"0.1", "0.15", "0.25", "0.3"}
    assert all(any(name.startswith("train_ranker/") for name in list(run["metrics"])) for run in runs)


def finished_in(database: Path) -> int:
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone()
    return int(count)


def size_of_store(folder: Path) -> int:
    files = [*folder.glob(".mlflow.db.*/draft.db"), *folder.glob("mlflow.db")]
    return max((file.stat().st_size for file in files), default=0)


@pytest.mark.fault("kill -9 while the store is made")
@pytest.mark.parametrize("share", [0.0, 0.15, 0.35, 0.6, 0.85])
def test_a_kill_while_the_tables_are_made_leaves_a_store_that_the_next_run_uses(
    bare_pipeline: Pipeline, empty_database: Path, share: float
) -> None:
    # MLflow's migrations do not go on from a part of themselves
    folder = bare_pipeline.folder
    running = start_python(folder, "-m", "stages.track")
    wait_until(
        lambda: size_of_store(folder) > share * empty_database.stat().st_size or running.poll() is not None, 0.002
    )
    assert running.poll() is None
    running.kill()
    running.communicate()
    again = start_python(folder, "-m", "stages.track")
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    assert [run.info.status for run in bare_pipeline.runs()] == ["FINISHED"]
    assert list(folder.glob(".mlflow.db*")) == []
