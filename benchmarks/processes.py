"""What a second process is worth: wall time of a training by one process and by two, in turns, on a synthetic world.

    python -m benchmarks.processes [data/processes] [--stages train_sasrec train_tiger] [--turns 3]

About ten minutes on two free cores. Each training is the default's but for its epochs, with a thread a process. The
time of an epoch is that between the first line of an epoch and the last, without starts. Where cores are busy, two
processes wait for each other and the ratio says nothing, so it prints how many were free before each training.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml

PROJECT = Path(__file__).parent.parent
EPOCHS = 3
BEFORE = {
    "train_sasrec": [],
    "train_parallel": ["train_sasrec", "extract_embeddings", "build_digits"],
    "train_tiger": ["train_sasrec", "extract_embeddings", "train_rqvae", "build_code_table"],
    "train_etegrec": ["train_sasrec", "extract_embeddings", "train_rqvae"],
    "train_two_tower": [],
}


class Took(NamedTuple):
    """Seconds by the clock of a whole stage and of one epoch, and how many cores were free before it."""

    whole: float
    epoch: float
    free: float


def write_params(folder: Path, devices: int) -> None:
    """The default on a synthetic world of 3,000 users and 2,000 items, a few epochs a training."""
    params: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["fetch_data"] |= {"name": "synthetic"}
    params["fetch_data"]["synthetic"] |= {"n_users": 3000, "n_items": 2000, "n_clusters": 40}
    params["train_rqvae"]["gates"] = {"min_usage": 0.0, "min_entropy": 0.0, "max_collision_rate": 1.0}
    params["build_digits"]["gates"] = {"min_usage": 0.0, "min_entropy": 0.0, "max_collision_rate": 1.0}
    for stage in BEFORE:
        params[stage] |= {"max_epochs": EPOCHS, "patience": EPOCHS}
    params["train_etegrec"]["final_stage"] |= {"max_epochs": 0}
    params["trainer"] |= {"devices": devices, "num_threads": 1, "portable": False}
    params["runtime"]["progress_bar"] = True  # a line an epoch, where no terminal is
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def free_cores(seconds: float = 2.0) -> float:
    """How many cores idled in the last seconds, of those of the machine (Linux)."""

    def idle() -> int:
        return int(Path("/proc/stat").read_text(encoding="utf-8").split()[4])

    before = idle()
    time.sleep(seconds)
    return (idle() - before) / os.sysconf("SC_CLK_TCK") / seconds


def run(stage: str, folder: Path) -> Took:
    """Run a stage as DVC does."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "GENREC_TRACKING": "off", "OMP_NUM_THREADS": "1"}
    free, started, epochs, said = free_cores(), time.perf_counter(), [], []
    with subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"], cwd=folder, env=environment, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        for line in process.stderr or ():
            said.append(line)
            if line.startswith("epoch "):
                epochs.append(time.perf_counter())
    if process.returncode:
        raise SystemExit(f"stages.{stage} failed in {folder}:\n{''.join(said)}")
    whole = time.perf_counter() - started
    return Took(whole, (epochs[-1] - epochs[0]) / (len(epochs) - 1) if len(epochs) > 1 else float("nan"), free)


def prepare(folder: Path, stages: list[str]) -> None:
    """All that these trainings read."""
    write_params(folder, 1)
    needed = dict.fromkeys(["fetch_data", "prepare_data", *(each for stage in stages for each in BEFORE[stage])])
    for stage in needed:
        run(stage, folder)


def compare(stage: str, folder: Path, turns: int) -> str:
    """A row of the table."""
    took: dict[int, list[Took]] = {1: [], 2: []}
    for _ in range(turns):
        for devices, found in took.items():
            write_params(folder, devices)
            found.append(run(stage, folder))
    alone, together = (Took(*(median(each) for each in zip(*found, strict=True))) for found in took.values())
    free = min(each.free for found in took.values() for each in found)
    pairs = ((alone.whole, together.whole), (alone.epoch, together.epoch))
    figures = [f"{one:.2f} | {two:.2f} | {one / two:.2f}" for one, two in pairs]
    return " | ".join([f"| {stage}", *figures, f"{free:.1f} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where it works; without one a temporary folder")
    parser.add_argument("--stages", nargs="+", choices=list(BEFORE), default=["train_sasrec", "train_tiger"])
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    folder = (arguments.folder or Path(tempfile.mkdtemp(prefix="genrec-processes-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder, arguments.stages)
    print(
        f"{os.cpu_count()} cores; medians of {arguments.turns} turns, seconds by the clock\n\n"
        "| training | 1 process | 2 processes | times as fast | an epoch, 1 | an epoch, 2 | times as fast "
        "| cores free, least |\n" + "|---" * 8 + "|"
    )
    for stage in arguments.stages:
        print(compare(stage, folder, arguments.turns), flush=True)
    if arguments.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
