"""The tables of what `benchmarks.quality` measured, as markdown: `python -m benchmarks.quality_table FOLDER`.

Each model's figures are means over its seeds. Intervals are 95 % bootstraps over users, of each target's mean over the
seeds; those of a difference draw the same users for both models, and whoever has several targets with all of them.
"""

import csv
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.quality import MONITOR, UNTRAINED, VARIANTS
from genrec.evaluation.figures import bootstrap_intervals
from genrec.evaluation.measures import user_metrics
from genrec.storage.files import load_arrays

Bounds = tuple[tuple[int, int | None], ...]

RESAMPLES = 1000
METRICS = ("recall_at_10", "ndcg_at_10")
PROTOCOLS = ("kept", "excluded")
# what a model is alone and beside others, and where its ranks are; a ranker's of the test alone
SUFFIXES = {"": "ranks.npz", "+memory": "ranks.npz", "+ranker": "ranked.npz"}
# both ends within: times that a target was learned, and interactions before it
FEWEST: Bounds = ((0, 4), (5, 9), (10, 24), (25, None))
LENGTHS: Bounds = ((1, 2), (3, 4), (5, 9), (10, 19), (20, None))
MARKS = (0.5, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30)  # CPU minutes


@dataclass(frozen=True)
class Row:
    """A model over its seeds.

    Attributes:
        of_seeds: split/protocol/metric to (n_seeds, n_targets).
        cpu_minutes: mean of the training, and of the SASRec whose items it needs.
    """

    name: str
    seeds: list[int]
    of_seeds: dict[str, Tensor]
    cpu_minutes: tuple[float, float]
    shares: list[float]

    def per_target(self, key: str) -> Tensor:
        """(n_targets,), each target's mean over the seeds."""
        return self.of_seeds[key].mean(0)


def read_rows(folder: Path) -> dict[str, Row]:
    """Every model that has results, in the order of the table; right after it those with the memory and a ranker."""
    runs = [(file.parent, json.loads(file.read_text())) for file in sorted(folder.glob("*/run.json"))]
    rows = {}
    for model in (*UNTRAINED, *VARIANTS):
        for suffix, file in SUFFIXES.items() if model in VARIANTS else [("", "ranks.npz")]:
            of_model = [(path / file, run) for path, run in runs if run["model"] == model and (path / file).exists()]
            if of_model:
                name = model + suffix.replace("+", " + ")
                rows[name] = _row(name, of_model, suffix)
    return rows


def _row(name: str, runs: list[tuple[Path, dict]], suffix: str) -> Row:
    of_seeds: dict[str, list[Tensor]] = {}
    for file, _ in runs:
        for key, ranks in load_arrays(file).items():
            split, protocol = key.split("/")
            if protocol in [each + suffix for each in PROTOCOLS]:
                metrics = user_metrics(torch.from_numpy(ranks).long(), [10])
                for metric in METRICS:
                    of_seeds.setdefault(f"{split}/{protocol.removesuffix(suffix)}/{metric}", []).append(
                        metrics[metric].double()
                    )
    minutes = [np.mean([run[key] for _, run in runs]) for key in ("cpu_minutes", "cpu_minutes_of_sasrec")]
    return Row(
        name,
        [run["seed"] for _, run in runs],
        {key: torch.stack(values) for key, values in of_seeds.items()},
        (float(minutes[0]), float(minutes[1])),
        [run.get("share", 0.0) for _, run in runs] if suffix == "+memory" else [],
    )


def figures(rows: dict[str, Row], users: NDArray[np.int64]) -> Iterator[str]:
    """Recall@10 / NDCG@10, and the ends of the intervals of the test's.

    Args:
        users: (n_targets,), whose each target of the test is.
    """
    yield "| model | seeds | validation, excl. | test, kept | test, excl. | 95 % of the latter | CPU minutes |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows.values():
        keys = {metric: row.per_target(f"test/excluded/{metric}") for metric in METRICS}
        ends = bootstrap_intervals(keys, RESAMPLES, seed=0, user_ids=users)
        interval = " / ".join(f"{_short(low)} to {_short(high)}" for low, high in ends.values())
        own, base = row.cpu_minutes
        is_alone = not row.name.endswith((" + memory", " + ranker"))
        cost = f"{own:.1f}" + (f" + {base:.1f}" if base else "") if is_alone else ""
        cells = [_pair(row, "validation/excluded"), _pair(row, "test/kept"), _pair(row, "test/excluded")]
        shown = row.name + (f" ({', '.join(f'{share:.1f}' for share in row.shares)})" if row.shares else "")
        yield f"| {shown} | {len(row.seeds)} | {' | '.join(cells)} | {interval} | {cost} |"


def _pair(row: Row, key: str) -> str:
    keys = [f"{key}/{metric}" for metric in METRICS]
    return " / ".join(_short(float(row.per_target(each).mean())) for each in keys if each in row.of_seeds)


def differences(rows: dict[str, Row], pairs: list[tuple[str, str]], users: NDArray[np.int64]) -> Iterator[str]:
    """Each first model minus the second on the test, over the seeds that both have; `users` as in `figures`."""
    yield "| difference on the test | R@10, kept | N@10, kept | R@10, excl. | N@10, excl. | N@10, excl., by seed |"
    yield "|---|---|---|---|---|---|"
    for ours, theirs in pairs:
        if ours not in rows or theirs not in rows:
            continue
        keys = [f"test/{protocol}/{metric}" for protocol in PROTOCOLS for metric in METRICS]
        of_seeds = _of_common_seeds(rows[ours], rows[theirs], keys)
        values = {key: of_seed.mean(0) for key, of_seed in of_seeds.items()}
        ends = bootstrap_intervals(values, RESAMPLES, seed=0, user_ids=users)
        cells = [f"{value.mean():+.4f} [{ends[key][0]:+.4f}, {ends[key][1]:+.4f}]" for key, value in values.items()]
        by_seed = ", ".join(f"{value:+.4f}" for value in of_seeds[keys[-1]].mean(1))
        yield f"| {ours} − {theirs} | {' | '.join(cells)} | {by_seed} |"


def _of_common_seeds(first: Row, second: Row, keys: list[str]) -> dict[str, Tensor]:
    """first - second, (n_common, n_targets); what needs no training is the same for all seeds."""
    untrained = second.name in UNTRAINED
    seeds = [seed for seed in first.seeds if untrained or seed in second.seeds]
    ours = [first.seeds.index(seed) for seed in seeds]
    theirs = [0 if untrained else second.seeds.index(seed) for seed in seeds]
    return {key: first.of_seeds[key][ours] - second.of_seeds[key][theirs] for key in keys}


def kinds_of_items(targets: dict[str, NDArray]) -> dict[str, NDArray[np.bool_]]:
    """Targets by whether the memory knows a way to them, and by how often they were learned."""
    known = targets["known_transition"]
    groups = {"known transition": known, "unknown transition": ~known}
    return {**groups, **_within(targets["times_learned"], FEWEST, "learned {} to {} times", "{} times or more")}


def kinds_of_users(targets: dict[str, NDArray]) -> dict[str, NDArray[np.bool_]]:
    """Targets by what training knows of their item and of their user, and by how much is before them."""
    new_item, new_user = targets["times_learned"] == 0, targets["new_user"]
    groups = {"new item": new_item, "known item": ~new_item, "new user": new_user, "known user": ~new_user}
    return {**groups, **_within(targets["history"], LENGTHS, "{} to {} before", "{} or more before")}


def _within(values: NDArray[np.int64], bounds: Bounds, between: str, above: str) -> dict[str, NDArray[np.bool_]]:
    groups = {}
    for low, high in bounds:
        if high is None:
            groups[above.format(low)] = values >= low
        else:
            groups[between.format(low, high)] = (values >= low) & (values <= high)
    return groups


def breakdown(rows: dict[str, Row], groups: dict[str, NDArray[np.bool_]]) -> Iterator[str]:
    """NDCG@10, history excluded, of the targets of each group; groups of none are left out."""
    some = {name: torch.from_numpy(group) for name, group in groups.items() if group.any()}
    yield "| NDCG@10 on the test, excl. | " + " | ".join(some) + " |"
    yield "|---|" + "---|" * len(some)
    yield (
        "| share of the targets | "
        + " | ".join(f"{float(group.double().mean()):.0%}" for group in some.values())
        + " |"
    )
    for row in rows.values():
        values = row.per_target("test/excluded/ndcg_at_10")
        yield f"| {row.name} | " + " | ".join(_short(float(values[group].mean())) for group in some.values()) + " |"


def curves(folder: Path) -> Iterator[str]:
    """The best validation so far (NDCG@10, excluded) by CPU minutes of training, the first seed of each model."""
    columns = {}
    for model in VARIANTS:
        for file in sorted(folder.glob("*/run.json")):
            run = json.loads(file.read_text())
            if run["model"] == model and model not in columns:
                base = run["cpu_minutes_of_sasrec"]
                rows = list(csv.DictReader((file.parent / "curves.csv").read_text(encoding="utf-8").splitlines()))
                points = [(base + float(row["cpu_minutes"]), float(row[MONITOR])) for row in rows if row.get(MONITOR)]
                if points:  # two towers are not validated by it
                    columns[model] = points
    yield "| CPU minutes | " + " | ".join(columns) + " |"
    yield "|---|" + "---|" * len(columns)
    last = max((points[-1][0] for points in columns.values()), default=0.0)
    for mark in [*(mark for mark in MARKS if mark < last), math.ceil(last)]:
        best = [max((value for minute, value in points if minute <= mark), default=None) for points in columns.values()]
        yield f"| {mark} | " + " | ".join("-" if value is None else _short(value) for value in best) + " |"


def _short(value: float) -> str:
    """Example:
    >>> _short(0.05678)
    '.0568'
    """
    return f"{value:.4f}".removeprefix("0")


def main(folder: Path) -> None:
    rows, targets = read_rows(folder), load_arrays(folder / "targets.npz")
    memory = " + memory"
    pairs = [(ours + suffix, theirs + suffix) for suffix in ("", memory, " + ranker") for ours, theirs in (
        ("parallel", "sasrec"), ("parallel", "sasrec+words"), ("parallel", "sasrec+words, 256-d"),
        ("parallel, 256-d", "sasrec"), ("parallel, 256-d", "sasrec+words"), ("parallel, 256-d", "sasrec+words, 256-d"),
        ("parallel, 256-d", "parallel"), ("sasrec+words, 256-d", "sasrec+words"),
        ("sasrec+words", "sasrec"), ("two towers", "sasrec"), ("parallel of sasrec", "sasrec"),
        ("parallel", "parallel of sasrec"), ("parallel", "parallel of words"),
        ("parallel", "parallel, item loss"), ("parallel", "parallel, digit loss"),
        ("parallel", "tiger"), ("tiger", "sasrec"), ("tiger", "tiger, code loss"),
        ("etegrec", "sasrec"), ("etegrec", "tiger"), ("etegrec", "tiger, code loss"))]  # fmt: skip
    against = [
        (model + suffix, "transitions")
        for suffix in ("", memory)
        for model in ("sasrec", "sasrec+words", "parallel", "parallel, 256-d")
    ]
    ranked = [(f"{model} + ranker", model + suffix) for model in VARIANTS for suffix in ("", memory)]
    parts = [
        figures(rows, targets["user"]),
        differences(rows, pairs + against + ranked, targets["user"]),
        breakdown(rows, kinds_of_items(targets)),
        breakdown(rows, kinds_of_users(targets)),
        curves(folder),
    ]
    print("\n\n".join("\n".join(part) for part in parts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
