"""How preparation grows: seconds and peak memory from 1 to 100 million interactions, by both engines.

    python -m benchmarks.scale data/scale --interactions 1 10 --engines memory stream
    python -m benchmarks.scale data/scale --interactions 100 --engines stream

A user has ten interactions, an item a hundred, a few items most of them; the log is a folder of parquet parts. Each
engine runs as its stage does, in a process of its own; the same bytes have the same digest. Prints a Markdown table.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml

PROJECT = Path(__file__).parent.parent
PART_ROWS = 5_000_000
SECONDS_OF_A_YEAR = 31_536_000


class Cost(NamedTuple):
    """What a stage took: seconds by the clock, seconds of the CPU, and its peak of memory in GiB."""

    wall: float
    cpu: float
    peak: float

    def __str__(self) -> str:
        return f"{self.wall:.0f} | {self.cpu:.0f} | {self.peak:.2f}"


def write_log(folder: Path, n_rows: int) -> None:
    """Parts of `user_id`, `item_id`, `timestamp`, int64 each, in no order."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for part in range(-(-n_rows // PART_ROWS)):
        random = np.random.default_rng(part)
        size = min(PART_ROWS, n_rows - part * PART_ROWS)
        items = (n_rows // 100 * random.random(size) ** 2).astype(np.int64)  # nosec B311
        users = random.integers(0, n_rows // 10, size)
        times = 1_600_000_000 + random.integers(0, SECONDS_OF_A_YEAR, size)
        frame = pd.DataFrame({"user_id": users, "item_id": items, "timestamp": times})
        frame.to_parquet(unfinished / f"part-{part:03d}.parquet", index=False)
    unfinished.rename(folder)


def write_project(folder: Path, log: Path, engine: str, memory_gb: float) -> None:
    """The params.yaml of a run on a log, in a folder of its own."""
    params: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["fetch_data"] |= {"name": "interactions", "path": str(log)}
    params["fetch_data"]["columns"] |= {"rating": ""}
    params["prepare_data"]["engine"] = engine
    params["runtime"] |= {"memory_gb": memory_gb, "progress_bar": False}
    params["track"]["enabled"] = False
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def run(stage: str, folder: Path) -> Cost:
    """Run a stage; its own process measures the peak."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", f"stages.{stage}"], cwd=folder, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"stages.{stage} failed in {folder}")
    wall = time.perf_counter() - started
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)


def digest(prepared: Path) -> str:
    """Of all that a stage wrote."""
    total = hashlib.sha256()
    for file in sorted(prepared.iterdir()):
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:12]


def n_rows_of(file: Path) -> int:
    """How many rows a parquet file has, by its footer."""
    return int(pq.read_metadata(file).num_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where logs and results go: 4 GB for each 100 million interactions")
    parser.add_argument("--interactions", type=int, nargs="+", default=[1, 10], help="in millions")
    parser.add_argument("--engines", nargs="+", choices=["memory", "stream"], default=["memory", "stream"])
    parser.add_argument("--memory-gb", type=float, default=4.0, help="runtime.memory_gb")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    print(
        "| interactions, M | stage | engine | seconds | CPU seconds | peak, GiB | kept, M | bytes |\n"
        + "|---" * 8
        + "|"
    )
    for millions in arguments.interactions:
        log = folder / f"log-{millions}"
        if not log.exists():
            with ProcessPoolExecutor(1) as maker:  # so that this process stays small, from which the stages are forked
                maker.submit(write_log, log, millions * 1_000_000).result()
        for engine in arguments.engines:
            project = folder / f"{engine}-{millions}"
            shutil.rmtree(project, ignore_errors=True)
            write_project(project, log, engine, arguments.memory_gb)
            fetched = run("fetch_data", project)
            print(f"| {millions} | fetch_data | | {fetched} | | |", flush=True)
            prepared = run("prepare_data", project)
            kept = n_rows_of(project / "data/prepared/interactions.parquet") / 1e6
            of_bytes = digest(project / "data/prepared")
            print(f"| {millions} | prepare_data | {engine} | {prepared} | {kept:.2f} | {of_bytes} |", flush=True)


if __name__ == "__main__":
    main()
