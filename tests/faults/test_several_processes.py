"""One of two processes that train together is killed: the other ends, one line says so, and the command goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.stages_in_processes import PROJECT, digests, remove_outputs, run_stage_process, write_params

pytestmark = pytest.mark.faults

STAGE = "train_sasrec"
TOGETHER = {"trainer": {"devices": 2}, STAGE: {"max_epochs": 40, "patience": 40}}


@dataclass(frozen=True)
class Together:
    """A stage as DVC runs it, which starts its second process itself.

    Attributes:
        said: the file that both write to.
    """

    first: subprocess.Popen[bytes]
    said: Path

    @property
    def other(self) -> int:
        """The id of the second process, 0 where there is none."""
        children = Path(f"/proc/{self.first.pid}/task/{self.first.pid}/children").read_text(encoding="utf-8").split()
        return int(children[0]) if children else 0


def start(folder: Path, said: Path) -> Together:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "LOCAL_RANK"))}
    environment |= {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    with said.open("wb") as stream:
        first = subprocess.Popen(
            [sys.executable, "-m", f"stages.{STAGE}"], cwd=folder, env=environment, stdout=stream, stderr=stream
        )
    return Together(first, said)


@contextmanager
def ended_at_last(running: Together) -> Iterator[Together]:
    """Leave no process behind, whatever a test finds."""
    try:
        yield running
    finally:
        if running.first.poll() is None:
            for process in (running.other, running.first.pid):
                if process:
                    os.kill(process, signal.SIGKILL)
            running.first.wait()


def finish(folder: Path, said: Path) -> tuple[int, str]:
    status = start(folder, said).first.wait(1800)
    return status, said.read_text(encoding="utf-8")


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.exists() and "\nState:\tZ" not in status.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project after an uninterrupted training by two processes."""
    folder = tmp_path_factory.mktemp("together") / "project"
    write_params(folder, TOGETHER)
    for stage in ("fetch_data", "prepare_data"):
        assert run_stage_process(folder, stage).status == 0
    status, said = finish(folder, folder / "said")
    assert status == 0, said
    return folder


@pytest.mark.parametrize(
    ("struck", "blow"), [("other", signal.SIGKILL), ("first", signal.SIGKILL), ("first", signal.SIGTERM)]
)
@pytest.mark.fault("one of two processes that train together killed or terminated")
def test_the_other_process_ends_with_one_line_and_the_same_command_goes_on(
    prepared: Path, struck: str, blow: signal.Signals
) -> None:
    whole = digests(prepared, [STAGE])
    remove_outputs(prepared, STAGE)
    with ended_at_last(start(prepared, prepared / "said")) as running:
        wait_until(lambda: list(prepared.glob(f".genrec/scratch/{STAGE}-*/last.ckpt")), 900)
        other = running.other
        os.kill(running.first.pid if struck == "first" else other, blow)
        wait_until(lambda: running.first.poll() is not None and not is_running(other), 30)
    assert running.first.returncode != 0
    said = running.said.read_text(encoding="utf-8")
    assert "Traceback" not in said
    (told,) = [line for line in said.splitlines() if not re.match(r"epoch \d+/40 ", line)]
    assert ("has ended; run again" if blow == signal.SIGKILL else "was terminated in epoch") in told
    assert digests(prepared, [STAGE]) == {}
    status, said = finish(prepared, prepared / "said")
    assert status == 0, said
    assert "resuming train_sasrec after epoch" in said
    assert digests(prepared, [STAGE]) == whole
    assert not list((prepared / ".genrec/scratch").glob("*"))
