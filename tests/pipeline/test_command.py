"""How a stage ends: one line for a user's mistake, a traceback for ours, a note of its time when all went well."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_pipeline import PROJECT

from genrec.errors import UserError
from genrec.pipeline.command import run_command, run_stage
from genrec.pipeline.execution import Execution

STAGE = '''"""Count the things."""
from genrec.pipeline.command import run_stage
from genrec.errors import UserError

def main():
    print("counting")
    {body}

if __name__ == "__main__":
    run_stage(main, __doc__)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where DVC runs a stage named `count`."""
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_STAGE", "count")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    return tmp_path


def run(folder: Path, body: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    (folder / "count.py").write_text(STAGE.format(body=body))
    command_line = [sys.executable, "-m", "count", *arguments]
    return subprocess.run(command_line, cwd=folder, capture_output=True, text=True, check=False)


def test_a_users_mistake_is_one_line_without_a_traceback(folder: Path) -> None:
    answer = run(folder, "raise UserError('path: no.csv not found; give a file')")
    assert answer.returncode == 1
    assert answer.stderr == "error: path: no.csv not found; give a file\n"
    assert answer.stdout == "counting\n"


def test_our_mistake_keeps_its_traceback(folder: Path) -> None:
    answer = run(folder, "raise ValueError('a bug')")
    assert answer.returncode == 1
    assert answer.stderr.startswith("Traceback (most recent call last):")
    assert answer.stderr.endswith("\nValueError: a bug\n")


def test_help_tells_what_a_stage_does_and_does_not_do_it(folder: Path) -> None:
    answer = run(folder, "pass", "--help")
    assert answer.returncode == 0
    assert "Count the things." in answer.stdout
    assert "params.yaml" in answer.stdout
    assert "counting" not in answer.stdout
    assert Execution.current().executed() == {}


def test_a_stage_takes_no_arguments(folder: Path) -> None:
    answer = run(folder, "pass", "--epochs=3")
    assert answer.returncode == 2
    assert "unrecognized arguments: --epochs=3" in answer.stderr
    assert "counting" not in answer.stdout


class TestSeconds:
    @pytest.fixture(autouse=True)
    def _no_arguments(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["count"])
        clock = iter([100.0, 107.25])
        monkeypatch.setattr(time, "perf_counter", lambda: next(clock))

    def test_of_a_stage_that_ended_well_are_noted(self) -> None:
        run_stage(lambda: None, "Count.")
        assert Execution.current().executed() == {"count": 7.25}

    @pytest.mark.parametrize(("mistake", "end"), [(UserError("no"), SystemExit), (ValueError("a bug"), ValueError)])
    def test_of_a_stage_that_failed_are_not_noted(self, mistake: Exception, end: type[BaseException]) -> None:
        def main() -> None:
            raise mistake

        with pytest.raises(end):
            run_stage(main, "Count.")
        assert Execution.current().executed() == {}


def test_a_command_that_is_no_stage_is_not_noted(folder: Path) -> None:
    run_command(lambda: None)
    assert Execution.current().executed() == {}


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own setting")
def test_freed_memory_is_not_fetched_anew():
    script = """if True:
        import resource, sys
        from genrec.pipeline.command import keep_freed_memory
        if sys.argv[1] == "kept":
            assert keep_freed_memory()
        for _ in range(20):
            len(b"1" * 50_000_000)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    """
    faults = {how: int(subprocess.check_output([sys.executable, "-c", script, how])) for how in ("kept", "plain")}
    assert faults["kept"] * 5 < faults["plain"]
