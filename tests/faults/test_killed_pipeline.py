"""`dvc repro` killed in every stage and run again: it ends as one that nothing interrupted, elsewhere and otherwise."""

import json
import os
import random
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cloned_project import Project, clone

from faults.whole_pipeline import ELSEWHERE, SMALL, stages_in, wait_until

pytestmark = pytest.mark.faults

SEED = 11
# whose appearance a kill waits for; ETEGRec has two phases
CHECKPOINTS = {"train_etegrec": ["joint/last.ckpt", "final/last.ckpt"]}


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
    # `track` only waits for what publishes, and ends before a kill could come
    project, stages = clones[1], [stage for stage in elsewhere[1] if stage != "track"]
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
    mend_locks_of_dvc(project)
    said = log.read_text()
    stage = stages_in(said)[-1]
    return Kill(stage, any(scratch.glob(f"{stage}-*/**/last.ckpt")), said)


def mend_locks_of_dvc(project: Project) -> None:
    """As docs/reliability.md says: DVC writes its list of locks in place, and reads no half of it."""
    locks = project.folder / ".dvc/tmp/rwlock"
    try:
        json.loads(locks.read_text() if locks.exists() else "{}")
    except json.JSONDecodeError:
        locks.unlink()


@pytest.mark.fault("kill -9 of dvc repro")
def test_a_killed_repro_ends_with_the_lock_of_an_uninterrupted_one(
    request: pytest.FixtureRequest,
    killed: tuple[Project, list[Kill], str],
    elsewhere: tuple[Project, list[str]],
) -> None:
    project, kills, end = killed
    request.node.user_properties.append(("tries", len(kills)))
    assert (project.folder / "dvc.lock").read_bytes() == (elsewhere[0].folder / "dvc.lock").read_bytes()
    lock = Path("tracking/dvc.lock")
    assert (project.folder / lock).read_bytes() == (elsewhere[0].folder / lock).read_bytes()
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


@pytest.mark.fault("kill -9 of dvc repro")
def test_after_kills_the_store_holds_one_finished_run_and_none_that_runs(
    killed: tuple[Project, list[Kill], str],
) -> None:
    assert [run["status"] for run in killed[0].runs()] == ["FINISHED"]
    assert list(killed[0].folder.glob(".mlflow.db*")) == []
