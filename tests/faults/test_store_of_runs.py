"""The store of runs under `dvc repro`: computed again, its server killed, four workers at once, itself half made."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cloned_project import Project, clone
from fake_pipeline import Pipeline, start_python

from faults.stages_in_processes import PIPELINE
from faults.whole_pipeline import ONCE_MORE, SMALL, stages_in, wait_until
from genrec.pipeline.execution import PUBLISHING
from genrec.pipeline.run_store import LOCK_OF_TRACK

# SQLAlchemy 2.1 about MLflow's own tables.
pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """After one `dvc repro`."""
    project = clone(tmp_path_factory.mktemp("project") / "genrec", **SMALL)
    project.dvc("repro")
    return project


@pytest.mark.fault("dvc repro -f, under other settings again")
def test_computing_all_again_gives_the_same_lock(project: Project) -> None:
    lock = (project.folder / "dvc.lock").read_bytes()
    project.environment |= ONCE_MORE
    assert sorted(stages_in(project.dvc("repro", "-f"))) == sorted([*PIPELINE, PUBLISHING])
    assert (project.folder / "dvc.lock").read_bytes() == lock
    assert [run["status"] for run in project.runs()] == ["FINISHED"]


def locked_stages(project: Project) -> bytes:
    """What DVC locked of all stages but `track`."""
    return LOCK_OF_TRACK.sub(b"", (project.folder / "dvc.lock").read_bytes())


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
    project: Project,
) -> None:
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
    assert stages_in(said)[-1] == PUBLISHING
    locked = locked_stages(project)
    with server(project, port):
        assert stages_in(project.dvc("repro")) == [PUBLISHING]
    assert locked_stages(project) == locked
    del project.environment["MLFLOW_TRACKING_URI"]
    assert [run["status"] for run in project.runs()] == ["FINISHED", "FINISHED"]


@pytest.mark.fault("four queue workers on a store that does not exist")
def test_four_workers_train_and_publish_into_a_store_that_does_not_exist(
    request: pytest.FixtureRequest, project: Project
) -> None:
    request.node.user_properties.append(("tries", 4))
    project.set(**{"train_ranker.max_epochs": 4, "train_ranker.patience": 4})
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
