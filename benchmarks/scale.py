"""How the pipeline grows: seconds and peak memory of its stages, each in a process of its own as `dvc repro` runs it.

    python -m benchmarks.scale data/scale --interactions 1 10 --engines memory stream
    python -m benchmarks.scale data/scale --interactions 100 --engines stream
    python -m benchmarks.scale data/scale --interactions 1 10 --stages count_transitions train_sasrec "evaluate sasrec"
    python -m benchmarks.scale data/scale --items 120000 1200000

By interactions, in millions: preparation by each engine, or the stages that are named, after it. A user has ten
interactions, an item a hundred, a few items most of them; the log is a folder of parquet parts; the same bytes have the
same digest. By items: every stage, on a synthetic world with a user for each six items. What comes after a preparation
has the settings of benchmarks/million.yaml. Prints Markdown tables.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml

from genrec.params.preset import overlay
from genrec.storage.output import read_metrics

PROJECT = Path(__file__).parent.parent
MILLION = PROJECT / "benchmarks/million.yaml"
PART_ROWS = 5_000_000
SECONDS_OF_A_YEAR = 31_536_000
ITEMS_OF_A_USER, ITEMS_OF_A_CLUSTER = 6, 1200  # of a world, whose users take 15 items: nearly all are taken

INTERACTIONS, ITEMS, WINDOWS, USERS = "interactions", "items", "windows", "users tested"
# what a stage goes through once
COUNTED = {
    "fetch_data": INTERACTIONS,
    "prepare_data": INTERACTIONS,
    "count_transitions": INTERACTIONS,
    "train_sasrec": INTERACTIONS,
    "extract_embeddings": ITEMS,
    "train_rqvae": ITEMS,
    "build_code_table": ITEMS,
    "build_digits": ITEMS,
    "train_tiger": WINDOWS,
    "train_etegrec": WINDOWS,
    "train_two_tower": WINDOWS,
    "train_parallel": INTERACTIONS,
    "package": ITEMS,
}  # all others: users


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


def params_with(settings: Mapping[str, Any]) -> dict[str, Any]:
    """This project's params, but for some settings."""
    params: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    overlay(params, dict(settings))
    return params


def write_project(folder: Path, settings: Mapping[str, Any]) -> None:
    """A folder of its own with the params.yaml of a run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params_with(settings), sort_keys=False), encoding="utf-8")


def begin(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the folder of a run, unless it is there with the same settings."""
    if not folder.exists():
        write_project(folder, settings)
        shutil.copy(PROJECT / "dvc.yaml", folder)  # the report draws it
    if yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8")) != params_with(settings):
        raise SystemExit(f"{folder} was begun with other settings than today's; delete it to measure anew")


def run(command: str, folder: Path) -> Cost:
    """Run a stage, `NAME` or `NAME ARGUMENT`; its own process measures the peak."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *f"stages.{command}".split()], cwd=folder, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"stages.{command} failed in {folder}")
    wall = time.perf_counter() - started
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)


def measured(command: str, folder: Path) -> Cost:
    """As `run`, once: what a stage took is kept in the folder, so that a benchmark that was stopped goes on."""
    file = folder / "costs" / f"{command}.json"
    if not file.exists():
        cost = run(command, folder)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(cost), encoding="utf-8")
    return Cost(*json.loads(file.read_text(encoding="utf-8")))


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


def of_preparation(folder: Path, millions: int, engines: list[str], memory_gb: float) -> Iterator[tuple[object, ...]]:
    """The rows of one log: its preparation by each engine."""
    for engine in engines:
        project = folder / f"{engine}-{millions}"
        write_project(project, of_log(folder, millions, engine, memory_gb))
        run("fetch_data", project)
        cost = run("prepare_data", project)
        kept = n_rows_of(project / "data/prepared/interactions.parquet") / 1e6
        yield millions, engine, cost, f"{kept:.2f}", digest(project / "data/prepared")


def of_log(folder: Path, millions: int, engine: str, memory_gb: float) -> dict[str, dict[str, Any]]:
    """Write a log of so many interactions, unless it is there; what differs from params.yaml to prepare it."""
    log = folder / f"log-{millions}"
    if not log.exists():
        with ProcessPoolExecutor(1) as maker:  # so that this process stays small, from which the stages are forked
            maker.submit(write_log, log, millions * 1_000_000).result()
    return {
        "fetch_data": {"name": "interactions", "path": str(log), "columns": {"rating": ""}},
        "prepare_data": {"engine": engine},
        "runtime": {"memory_gb": memory_gb, "progress_bar": False},
        "track": {"enabled": False},
    }


def of_stages(folder: Path, millions: int, stages: list[str], memory_gb: float) -> Iterator[tuple[object, ...]]:
    """The rows of one log that is prepared by `stream`: stages in the order in which they are named."""
    project = folder / f"stages-{millions}"
    settings = yaml.safe_load(MILLION.read_text(encoding="utf-8"))
    for section, values in of_log(folder, millions, "stream", memory_gb).items():
        settings.setdefault(section, {}).update(values)
    begin(project, settings)
    for command in ["fetch_data", "prepare_data", *stages]:
        yield millions, command, measured(command, project)


def of_all_stages(folder: Path, n_items: int) -> Iterator[tuple[object, ...]]:
    """The rows of one world: every stage in the order of dvc.yaml, but the one that tells others of it.

    What was measured before, by the same settings, is not measured again.
    """
    project = folder / f"world-{n_items}"
    settings = yaml.safe_load(MILLION.read_text(encoding="utf-8"))
    world = {"n_users": n_items // ITEMS_OF_A_USER, "n_items": n_items, "n_clusters": n_items // ITEMS_OF_A_CLUSTER}
    settings["fetch_data"]["synthetic"] = world
    begin(project, settings)
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        if name == "track":
            continue
        cost = measured(stage["cmd"].removeprefix("python -m stages."), project)
        counted = COUNTED.get(name, USERS)
        yield f"{n_items:,}", name, f"{_n_counted(name, counted, project):,} {counted}", cost


def _n_counted(name: str, counted: str, project: Path) -> int:
    """How many of what a stage goes through there were."""
    if counted == WINDOWS:
        params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
        return int(params[name]["windows_per_epoch"])
    statistics = project / "reports/prepare_data/metrics.json"
    if not statistics.exists():  # nothing is prepared yet
        return n_rows_of_csv(project / "data/raw/interactions.csv")
    figures = read_metrics(statistics)
    return int(figures["held_out_users" if counted == USERS else f"n_{counted}"])


def n_rows_of_csv(file: Path) -> int:
    """How many lines it has below its header."""
    with file.open("rb") as stream:
        return sum(1 for _ in stream) - 1


def print_table(columns: list[str], rows: Iterator[tuple[object, ...]]) -> None:
    """Each row when it is known."""
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for row in rows:
        print("|", " | ".join(map(str, row)), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where logs and results go: 4 GB for each 100 million interactions")
    parser.add_argument("--interactions", type=int, nargs="+", default=[], help="in millions: prepare such logs")
    parser.add_argument("--stages", nargs="+", default=[], help="run these on such logs, instead of both preparations")
    parser.add_argument("--engines", nargs="+", choices=["memory", "stream"], default=["memory", "stream"])
    parser.add_argument("--memory-gb", type=float, default=4.0, help="runtime.memory_gb")
    parser.add_argument("--items", type=int, nargs="+", default=[], help="run every stage with so many items")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    took = ["seconds", "CPU seconds", "peak, GiB"]
    if arguments.interactions and arguments.stages:
        logs = (of_stages(folder, n, arguments.stages, arguments.memory_gb) for n in arguments.interactions)
        print_table(["interactions, M", "stage", *took], (row for log in logs for row in log))
    elif arguments.interactions:
        logs = (of_preparation(folder, n, arguments.engines, arguments.memory_gb) for n in arguments.interactions)
        columns = ["interactions, M", "engine", *took, "kept, M", "bytes"]
        print_table(columns, (row for log in logs for row in log))
    if arguments.items:
        worlds = (of_all_stages(folder, n_items) for n_items in arguments.items)
        print_table(["items", "stage", "rows", *took], (row for world in worlds for row in world))


if __name__ == "__main__":
    main()
