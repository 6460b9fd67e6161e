"""Contenders of a case, each in a process of its own, take turns; what counts is CPU time on one thread.

The machine may be shared: turns are interleaved, medians are reported, and a plain matrix product is timed between
the turns, so that figures of other machines can be compared through it.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from genrec.training.precision import BFLOAT16, resolve_precision

WARM_UPS, REPEATS = 1, 5


class Outcome(NamedTuple):
    """How much work a turn did, and how well where that may differ."""

    units: float
    reached: str


# one turn of work; how much of it was done
Turn = Callable[[], float | Outcome]


def also_in_bfloat16(contenders: dict[str, Callable[[], Turn]]) -> dict[str, Callable[[], Turn]]:
    """The contenders, and each of them under autocast where the processor has a unit for bfloat16."""
    if resolve_precision("auto", gpus=0, portable=False) != BFLOAT16:
        return contenders
    return contenders | {f"{name}, bfloat16": partial(in_bfloat16, make) for name, make in contenders.items()}


def in_bfloat16(make: Callable[[], Turn]) -> Turn:
    """A contender whose turns run under autocast."""
    turn = make()

    def autocast_turn() -> float | Outcome:
        with torch.autocast("cpu", torch.bfloat16):
            return turn()

    return autocast_turn


@dataclass(frozen=True)
class Case:
    """The same work, done by several contenders.

    Attributes:
        unit: what a contender's figure counts per CPU-second.
        contenders: by name, what sets a contender up and returns its turn; the first is ours.
    """

    title: str
    unit: str
    contenders: dict[str, Callable[[], Turn]]


@dataclass(frozen=True)
class Figure:
    """What a contender did.

    Attributes:
        rates: units per CPU-second of each turn.
        mib: the memory that its turns needed beyond what stood there before.
        reached: what the last turn came to, where contenders come to different ends.
    """

    rates: list[float]
    mib: float
    reached: str

    @property
    def rate(self) -> float:
        return median(self.rates)


@dataclass(frozen=True)
class Result:
    case: Case
    figures: dict[str, Figure]
    gflops: list[float]


def measure(module: str, number: int, case: Case) -> Result:
    """Let the contenders of a module's case take turns."""
    workers = {name: _start_worker(module, number, name) for name in case.contenders}
    rates: dict[str, list[float]] = {name: [] for name in workers}
    peaks: dict[str, float] = {}
    reached: dict[str, str] = {}
    gflops = []
    try:
        for name, worker in workers.items():
            _answer(worker, name)
        for _ in range(REPEATS):
            gflops.append(matmul_gflops())
            for name, worker in workers.items():
                assert worker.stdin is not None
                worker.stdin.write("turn\n")
                worker.stdin.flush()
                answer = _answer(worker, name)
                rates[name].append(answer["units"] / answer["seconds"])
                peaks[name] = max(peaks.get(name, 0.0), answer["mib"])
                reached[name] = answer["reached"]
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return Result(case, {name: Figure(rates[name], peaks[name], reached[name]) for name in workers}, gflops)


def matmul_gflops(size: int = 2048) -> float:
    """GFLOP per CPU-second of a float32 product of two square matrices on one thread."""
    torch.set_num_threads(1)
    a = torch.ones(size, size)
    started = time.process_time()
    a @ a
    return 2 * size**3 / (time.process_time() - started) / 1e9


def _start_worker(module: str, number: int, name: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.harness", module, str(number), name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _answer(worker: "subprocess.Popen[str]", name: str) -> dict[str, Any]:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError(f"the process of {name!r} ended; its error stands above")
    answer: dict[str, Any] = json.loads(line)
    return answer


def work(module: str, number: int, name: str) -> None:
    """A worker's life: set up, warm up, then a turn for each line that comes in."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # by its own name: as the program this module is another one, with another class Outcome
    from benchmarks.harness import Outcome

    turn = importlib.import_module(module).CASES[number].contenders[name]()
    before = _memory("VmRSS")
    for _ in range(WARM_UPS):
        turn()
    print("{}", file=answers, flush=True)
    for _ in sys.stdin:
        started = _cpu_seconds()
        done = turn()
        seconds = _cpu_seconds() - started
        units, reached = done if isinstance(done, Outcome) else (done, "")
        answer = {"units": units, "seconds": seconds, "mib": _memory("VmHWM") - before, "reached": reached}
        print(json.dumps(answer), file=answers, flush=True)


def _cpu_seconds() -> float:
    """Of this process and of those that it waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _memory(field: str) -> float:
    """A field of this process's memory status, in MiB; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), sys.argv[3])
