"""A trial as a process of DVC and what its experiment says in git; a pipeline test runs a whole search."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genrec.errors import UserError
from genrec.search import experiments
from genrec.search.experiments import Experiments
from genrec.search.space import Choice, Space
from genrec.search.study import Outcome

SPACE = Space("mine", "train_sasrec", "best_val/ndcg", "maximize", {"train_sasrec.embedding_dim": Choice((32, 64))})
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Experiments]:
    """In a git repository; instead of DVC starts the program that a test puts into `dvc.py`."""
    subprocess.run([*GIT, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*GIT, "commit", "-q", "--allow-empty", "-m", "start"], cwd=tmp_path, check=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    runner = Experiments(tmp_path, SPACE, "genrec-search-mine", tmp_path / "logs")
    yield runner
    runner.stop()


def ended(runner: Experiments, name: str) -> Outcome:
    while (outcome := runner.outcome(name)) is None:
        time.sleep(0.01)
    return outcome


def experiment(runner: Experiments, name: str, figures: Any) -> None:
    """What DVC leaves of an experiment that ended well."""
    file = runner.folder / "reports/train_sasrec/metrics.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures))
    for arguments in (["add", "reports"], ["commit", "-qm", name], ["update-ref", f"refs/exps/1a/2b3c/{name}", "HEAD"]):
        subprocess.run([*GIT, *arguments], cwd=runner.folder, check=True)


def test_a_trial_is_an_experiment_up_to_the_stage_of_the_objective_in_the_group_of_the_search(
    runner: Experiments,
) -> None:
    (runner.folder / "dvc.py").write_text("import sys; print(*sys.argv[1:])")
    runner.submit("mine-0003", {"train_sasrec.embedding_dim": 64})
    ended(runner, "mine-0003")
    assert (runner.logs / "mine-0003.log").read_text() == (
        "exp run --temp --name mine-0003 -S track.experiment=genrec-search-mine -S train_sasrec.embedding_dim=64"
        " train_sasrec\n"
    )


def test_a_mistake_that_a_stage_names_is_the_trials_problem(runner: Experiments) -> None:
    (runner.folder / "dvc.py").write_text("print('error: no such data')\nprint('ERROR: failed to reproduce')\nexit(1)")
    runner.submit("mine-0000", {})
    log = runner.logs / "mine-0000.log"
    assert ended(runner, "mine-0000") == Outcome(None, f"no such data (all of it: {log})")


def test_a_trial_that_finds_dvc_locked_is_started_again(runner: Experiments) -> None:
    # two that start at once: one sets up its experiment, the other gave up
    program = """
from pathlib import Path
if not Path("tried").exists():
    Path("tried").touch()
    print("ERROR: Unable to acquire lock. Most likely another DVC process is running")
    exit(1)
print("ERROR: something else")
exit(1)
"""
    (runner.folder / "dvc.py").write_text(program)
    runner.submit("mine-0000", {})
    outcome = ended(runner, "mine-0000")
    assert outcome.problem.startswith("ERROR: something else")


def test_while_it_runs_there_is_no_outcome_and_it_ends_with_the_search(runner: Experiments) -> None:
    child = f"import subprocess, sys; subprocess.run([{sys.executable!r}, '-c', 'import time; time.sleep(600)'])"
    (runner.folder / "dvc.py").write_text(child)
    runner.submit("mine-0000", {})
    process = runner._running["mine-0000"]
    assert runner.outcome("mine-0000") is None
    runner.stop()
    assert process.returncode != 0
    assert not runner.on_its_way("mine-0000")  # so that it is submitted again


@pytest.mark.parametrize("figures", [{"best_val/ndcg": 0.25}, {"best_val": {"ndcg": 0.25}, "n_epochs": 3}])
def test_the_figure_of_an_experiment_is_read_from_git(runner: Experiments, figures: Any) -> None:
    experiment(runner, "mine-0000", figures)
    assert runner.on_its_way("mine-0000")
    assert runner.outcome("mine-0000") == Outcome(0.25)


def test_a_figure_that_is_not_there_is_a_problem_that_names_those_that_are(runner: Experiments) -> None:
    experiment(runner, "mine-0000", {"n_epochs": 3})
    outcome = runner.outcome("mine-0000")
    assert outcome == Outcome(None, "reports/train_sasrec/metrics.json has no best_val/ndcg, but n_epochs")


def test_trouble_with_mlflow_is_a_warning(
    runner: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def record_trial(*arguments: object) -> None:
        raise UserError("MLflow is away")

    monkeypatch.setattr(experiments, "record_trial", record_trial)
    runner.record("mine-0000", {}, Outcome(0.5))
    assert "warning: mine-0000 is not shown in MLflow; MLflow is away" in capsys.readouterr().err
