"""Which stages DVC really executed: noted beside the outputs, an execution at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from genrec.pipeline.execution import PUBLISHING, Execution, record_executed


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside of DVC."""
    for name in ("DVC_STAGE", "DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_stage_outside_of_dvc_is_not_recorded(project: Path) -> None:
    record_executed(1)
    assert Execution.current().executed() == {}
    assert list(project.iterdir()) == []


@pytest.mark.parametrize("stage", ["track", PUBLISHING])
def test_tracking_itself_is_not_recorded(project: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    monkeypatch.setenv("DVC_STAGE", stage)
    record_executed(1)
    assert Execution.current().executed() == {}


def test_a_stage_that_ran_twice_counts_with_its_last_time(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage, seconds in (("train_rqvae", 9), ("train_tiger", 5.0004), ("train_rqvae", 7)):
        monkeypatch.setenv("DVC_STAGE", stage)
        record_executed(seconds)
    assert Execution.current().executed() == {"train_rqvae": 7, "train_tiger": 5.0}
    Execution.current().forget_executed()
    assert Execution.current().executed() == {}


def test_experiments_do_not_share_their_stages(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train_tiger")
    monkeypatch.setenv("DVC_EXP_NAME", "wide")
    record_executed(1)
    monkeypatch.setenv("DVC_EXP_NAME", "deep")
    assert Execution.current().executed() == {}


def test_a_temporary_folder_records_in_its_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `dvc exp run --queue` works in a folder that it deletes afterwards
    folder = project / "tmp"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.setenv("DVC_STAGE", "train_tiger")
    record_executed(1)
    assert list(folder.iterdir()) == []
    assert Execution.current().executed() == {"train_tiger": 1}


def test_an_experiment_is_known_by_its_name_and_its_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "rate=0.1,wide")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "b" * 40)
    execution = Execution.current()
    assert (execution.experiment, execution.baseline) == ("rate=0.1,wide", "b" * 40)
    assert execution.name == "rate_0.1_wide"
    assert execution.project_key == Execution(project, None, None).project_key
    assert execution.project_key != Execution(project / "other", None, None).project_key


def test_every_stage_can_afford_the_import() -> None:
    script = (
        "import sys; before = set(sys.modules); import genrec.pipeline.execution; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "sys.exit(str(sorted(new - sys.stdlib_module_names - {'genrec'})))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert answer.stderr.strip() == "[]"
