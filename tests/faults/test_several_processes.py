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

from faults.stages_in_processes import (
    PROJECT,
    arguments_of,
    digests,
    module_of,
    remove_outputs,
    run_stage_process,
    write_params,
)

pytestmark = pytest.mark.faults

LONG = {"max_epochs": 40, "patience": 40}
TOGETHER = {
    "trainer": {"devices": 2, "portable": False},
    "train_sasrec": LONG,
    "train_etegrec": {**LONG, "final_stage": LONG},
}
EPOCH = "last.ckpt"  # what stands in the scratch after the first whole epoch
BLOWS = [
    ("train_sasrec", EPOCH, "other", signal.SIGKILL),
    ("train_sasrec", EPOCH, "first", signal.SIGKILL),
    ("train_sasrec", EPOCH, "first", signal.SIGTERM),
    ("train_etegrec", f"joint/{EPOCH}", "other", signal.SIGKILL),
    ("train_etegrec", f"joint/{EPOCH}", "first", signal.SIGTERM),
    ("train_etegrec", f"final/{EPOCH}", "first", signal.SIGKILL),
]


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


def start(folder: Path, stage: str, said: Path) -> Together:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "LOCAL_RANK"))}
    environment |= {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    with said.open("wb") as stream:
        first = subprocess.Popen(
            [sys.executable, "-m", module_of(stage), *arguments_of(stage)],
            cwd=folder,
            env=environment,
            stdout=stream,
            stderr=stream,
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


def finish(folder: Path, stage: str, said: Path) -> tuple[int, str]:
    status = start(folder, stage, said).first.wait(1800)
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
    """The tiny project after an uninterrupted training of each model by two processes."""
    folder = tmp_path_factory.mktemp("together") / "project"
    write_params(folder, TOGETHER)
    for stage in ("fetch_data", "prepare_data"):
        assert run_stage_process(folder, stage).status == 0
    for stage in ("train_sasrec", "extract_embeddings", "train_rqvae", "train_etegrec"):
        status, said = finish(folder, stage, folder / "said")
        assert status == 0, said
    return folder


@pytest.mark.parametrize(("stage", "moment", "struck", "blow"), BLOWS)
@pytest.mark.fault("one of two processes that train together killed or terminated")
def test_the_other_process_ends_with_one_line_and_the_same_command_goes_on(
    prepared: Path, stage: str, moment: str, struck: str, blow: signal.Signals
) -> None:
    whole, said_in = digests(prepared, [stage]), prepared / "said"
    remove_outputs(prepared, stage)
    with ended_at_last(start(prepared, stage, said_in)) as running:
        wait_until(lambda: list(prepared.glob(f".genrec/scratch/{stage}-*/{moment}")), 900)
        other = running.other
        os.kill(running.first.pid if struck == "first" else other, blow)
        wait_until(lambda: running.first.poll() is not None and not is_running(other), 30)
    assert running.first.returncode != 0
    said = said_in.read_text(encoding="utf-8")
    assert "Traceback" not in said
    (told,) = [line for line in said.splitlines() if not re.match(r"epoch \d+/40 ", line)]
    assert ("has ended; run again" if blow == signal.SIGKILL else "was terminated in epoch") in told
    assert digests(prepared, [stage]) == {}
    status, said = finish(prepared, stage, said_in)
    assert status == 0, said
    assert f"resuming {stage} after epoch" in said
    assert digests(prepared, [stage]) == whole
    assert not list((prepared / ".genrec/scratch").glob("*"))


@pytest.mark.parametrize("struck", ["other", "first"])
@pytest.mark.fault("one of two processes that evaluate together killed")
def test_an_evaluation_by_two_processes_ends_with_either_and_finds_what_one_does(prepared: Path, struck: str) -> None:
    stage, said_in = "evaluate_sasrec", prepared / "said"
    assert run_stage_process(prepared, "count_transitions").status == 0
    write_params(prepared, {"trainer": {"portable": False}})
    assert finish(prepared, stage, said_in) == (0, "")
    alone = digests(prepared, [stage])
    write_params(prepared, TOGETHER)
    remove_outputs(prepared, stage)
    with ended_at_last(start(prepared, stage, said_in)) as running:
        wait_until(lambda: running.other, 60)
        other = running.other
        os.kill(running.first.pid if struck == "first" else other, signal.SIGKILL)
        wait_until(lambda: running.first.poll() is not None and not is_running(other), 30)
    assert running.first.returncode != 0
    said = said_in.read_text(encoding="utf-8").splitlines()  # struck while they meet, torch warns before
    assert re.fullmatch(r"error: another of the 2 processes .* run again", said[-1])
    assert [line for line in said if "Traceback" in line] == []
    assert digests(prepared, [stage]) == {}
    assert finish(prepared, stage, said_in) == (0, "")
    assert digests(prepared, [stage]) == alone
