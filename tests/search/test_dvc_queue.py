"""What a trial's experiment says, read from git and from DVC's queue; tests/test_pipeline_again.py runs a whole search."""

import json
import subprocess
from pathlib import Path

import pytest

from genrec.errors import UserError
from genrec.search import dvc_queue
from genrec.search.dvc_queue import DvcQueue
from genrec.search.space import Choice, Space
from genrec.search.study import Outcome

SPACE = Space("mine", "train_sasrec", "best_val/ndcg", "maximize", {"train_sasrec.embedding_dim": Choice((32, 64))})
STATUS = """Task     Name       Created    Status
1a2b3c4  mine-0000  03:14 PM   Success
5d6e7f8  mine-0001  03:14 PM   Failed
9a8b7c6  mine-0002             Running
0f0e0d0             03:15 PM   Queued

Worker status: 1 active, 0 idle
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DvcQueue:
    """A queue in a git repository, whose `dvc` only notes its commands."""
    queue = DvcQueue(tmp_path, SPACE, "genrec-search-mine", 2)
    by_git = queue._run
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    by_git("git", "init", "-q")
    by_git(*git, "commit", "-q", "--allow-empty", "-m", "start")

    def run(*command: str) -> str:
        if command[0] == "git":
            return by_git(*command)
        with (tmp_path / "commands").open("a") as noted:
            noted.write(" ".join(command) + "\n")
        return STATUS if command[1:] == ("queue", "status") else ""

    monkeypatch.setattr(queue, "_run", run)
    monkeypatch.setattr(queue, "start", lambda: run("dvc", "queue", "start"))
    return queue


def commands(queue: DvcQueue) -> list[str]:
    return (queue.folder / "commands").read_text().splitlines()


def experiment(queue: DvcQueue, name: str, figures: object) -> None:
    """What DVC leaves of an experiment that ended well."""
    file = queue.folder / "reports/train_sasrec/metrics.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["add", "reports"], ["commit", "-qm", name], ["update-ref", f"refs/exps/1a/2b3c/{name}", "HEAD"]):
        subprocess.run([*git, *arguments], cwd=queue.folder, check=True)


def test_a_trial_is_queued_for_the_stage_of_the_objective_in_the_group_of_the_search(queue: DvcQueue) -> None:
    queue.submit("mine-0003", {"train_sasrec.embedding_dim": 64})
    assert commands(queue) == [
        "dvc exp run --queue --name mine-0003 -S track.experiment=genrec-search-mine"
        " -S train_sasrec.embedding_dim=64 train_sasrec",
        "dvc queue start",
    ]


def test_the_figure_of_an_experiment_is_read_from_git(queue: DvcQueue) -> None:
    experiment(queue, "mine-0000", {"best_val/ndcg": 0.25, "n_epochs": 3})
    assert queue.outcome("mine-0000") == Outcome(0.25)


def test_a_nested_figure_too(queue: DvcQueue) -> None:
    experiment(queue, "mine-0000", {"best_val": {"ndcg": 0.5}})
    assert queue.outcome("mine-0000") == Outcome(0.5)


def test_a_figure_that_is_not_there_is_a_problem_that_names_those_that_are(queue: DvcQueue) -> None:
    experiment(queue, "mine-0000", {"n_epochs": 3})
    outcome = queue.outcome("mine-0000")
    assert outcome == Outcome(None, "reports/train_sasrec/metrics.json has no best_val/ndcg, but n_epochs")


def test_what_failed_what_goes_on_and_what_was_taken_away_differ(queue: DvcQueue) -> None:
    assert queue.outcome("mine-0001") == Outcome(None, "its stages failed, `dvc queue logs mine-0001` shows how")
    assert queue.outcome("mine-0002") is None
    assert queue.outcome("mine-0009") == Outcome(None, "it is no longer in DVC's queue")
    assert commands(queue) == ["dvc queue status"]  # asked once, since it takes seconds


def test_a_trial_of_an_earlier_call_is_known_and_its_queue_started_again(queue: DvcQueue) -> None:
    experiment(queue, "mine-0000", {})
    assert queue.on_its_way("mine-0000")
    assert not queue.on_its_way("mine-0009")
    assert queue.on_its_way("mine-0002")
    assert commands(queue)[-1] == "dvc queue start"


def test_trouble_with_mlflow_is_a_warning(
    queue: DvcQueue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def record_trial(*arguments: object) -> None:
        raise UserError("MLflow is away")

    monkeypatch.setattr(dvc_queue, "record_trial", record_trial)
    queue.record("mine-0000", {}, Outcome(0.5))
    assert "warning: mine-0000 is not shown in MLflow; MLflow is away" in capsys.readouterr().err


def test_a_command_that_fails_is_a_user_error_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`git rev-parse HEAD` failed: .*not a git repository"):
        DvcQueue(tmp_path, SPACE, "group", 1)._run("git", "rev-parse", "HEAD")
