"""What happens on a machine of a cluster: its processes are watched, and none outlives the one that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genrec.cluster import machine
from genrec.cluster.machine import MARK, Machine, last_word

PROGRAMS = {
    "well": "print('done')",
    "mistaken": "import sys; print('epoch 1'); sys.exit('error: no such column')",
    "endless": "import time; print('waits', flush=True); time.sleep(600)",
    "by_rank": "import os; print(os.environ['RANK'], os.getcwd())",
}


@pytest.fixture
def project(tmp_path):
    """A folder with modules that run as stages do, and one for what they say."""
    for name, text in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "logs").mkdir()
    return tmp_path


def run(project, *commands):
    """How processes end that a machine runs, each with a module of its own."""
    chosen = "import os, runpy; runpy.run_module(os.environ['MODULE'], run_name='__main__')"
    (project / "chosen.py").write_text(chosen)
    environments = {rank: {"MODULE": name, "RANK": str(rank)} for rank, name in enumerate(commands)}
    return Machine().run(str(project), ["chosen"], environments, str(project / "logs"))


def test_processes_run_in_the_project_with_variables_of_their_own(project):
    ended = run(project, "by_rank", "by_rank")
    assert [(rank, status, said) for rank, status, said, _ in ended] == [
        (0, 0, f"0 {project}"),
        (1, 0, f"1 {project}"),
    ]


def test_who_does_not_end_after_another_has_failed_is_ended_and_not_blamed(project, monkeypatch):
    monkeypatch.setattr(machine, "GRACE", 0.5)
    started = time.monotonic()
    ended = run(project, "endless", "mistaken")
    assert time.monotonic() - started < 60
    assert ended == [(1, 1, "error: no such column", str(project / "logs" / "1.log"))]
    assert not processes_in(project)


def processes_in(project: Path) -> list[int]:
    """The ids of processes that run in a folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            where = os.readlink(each / "cwd")
        except OSError:  # it has ended
            continue
        found += [int(each.name)] if where == str(project) else []
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_a_process_ends_with_the_one_that_started_it(project):
    code = (
        "import os; from pathlib import Path; from genrec.cluster.machine import start; "
        f"start({str(project)!r}, ['endless'], dict(os.environ), Path({str(project / 'log')!r})).wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    wait_for(lambda: (project / "log").exists() and "waits" in (project / "log").read_text())
    (child,) = processes_in(project)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: child not in processes_in(project))


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen within a minute"
        time.sleep(0.02)


def test_a_folder_is_the_same_where_its_mark_is(tmp_path):
    there = Machine()
    assert there.problem(str(tmp_path / "none"), "a") == f"does not see {tmp_path / 'none'}"
    (tmp_path / MARK).write_text("a")
    assert there.problem(str(tmp_path), "a") == ""
    assert there.problem(str(tmp_path), "b") == f"sees another folder as {tmp_path}"


@pytest.mark.parametrize(
    ("log", "word"),
    [
        ("", ""),
        ("epoch 1\n\nValueError: 3\n\n", "ValueError: 3"),
        ("error: no file\nwarning: leaked\n", "error: no file"),
    ],
)
def test_the_last_word_is_the_mistake_that_a_log_names(tmp_path, log, word):
    (tmp_path / "log").write_text(log)
    assert last_word(tmp_path / "log") == word
