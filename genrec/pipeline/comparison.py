"""A sweep as one table: finished runs that differ in one parameter, or in the seed alone, averaged over seeds.

dvc exp run --queue -S 'train_etegrec.variant=full,no_sia,no_psa' -S 'seed=1,2,3' && dvc queue start
python -m genrec.pipeline.comparison train_etegrec.variant recall_etegrec ndcg_etegrec

make seeds                              # the default by five seeds, which the queue runs one after the other
python -m genrec.pipeline.comparison    # each model's mean over the seeds and its standard deviation
"""

import argparse
import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t

from genrec.errors import UserError
from genrec.pipeline.command import run_command
from genrec.pipeline.tracking import FinishedRun, finished_runs

SEED = "seed"
PROTOCOLS = ("excluded", "kept")
MEASURES = ("recall_at_10", "ndcg_at_10")


@dataclass(frozen=True)
class Estimate:
    """A metric over seeds: the mean, and half the width of its 95 % confidence interval (Student's t)."""

    mean: float
    half_width: float
    n_seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """
        Example:
            >>> str(Estimate.of([1.0, 2.0, 3.0]))
            '2.0000 ± 2.4841'
            >>> str(Estimate.of([1.0]))
            '1.0000'
        """
        n = len(values)
        half_width = float(t.ppf(0.975, n - 1)) * stdev(values) / math.sqrt(n) if n > 1 else math.nan
        return cls(fmean(values), half_width, n)

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if math.isnan(self.half_width) else f" ± {self.half_width:.4f}")


def compare(runs: Sequence[FinishedRun], parameter: str, metrics: Sequence[str]) -> str:
    """A Markdown table of one row for each value of a parameter.

    The newest run sets the other parameters: a run that differs from it elsewhere than in the parameter and the seed is
    left out, and so is one that lacks a metric. Of two runs of the same value and seed the newest counts.

    Args:
        runs: the newest first.

    Raises:
        UserError: there is no run, no such parameter or no such metric.
    """
    if not runs:
        raise UserError("no finished run to compare; `dvc repro` or `dvc exp run` first")
    _check_name("parameter", parameter, runs[0].params)
    for metric in metrics:
        _check_name("metric", metric, runs[0].metrics)
    chosen: dict[str, dict[str, FinishedRun]] = {}
    for run in runs:
        is_whole = parameter in run.params and all(metric in run.metrics for metric in metrics)
        if is_whole and _others(run, parameter) == _others(runs[0], parameter):
            chosen.setdefault(run.params[parameter], {}).setdefault(run.params[SEED], run)
    lines = [f"| {parameter} | seeds | {' | '.join(metrics)} |", "|---" * (len(metrics) + 2) + "|"]
    for value, of_seeds in sorted(chosen.items(), key=lambda row: _place(row[0])):
        estimates = [Estimate.of([run.metrics[metric] for run in of_seeds.values()]) for metric in metrics]
        lines.append(f"| {value} | {len(of_seeds)} | {' | '.join(map(str, estimates))} |")
    return "\n".join(lines)


def seeds_table(runs: Sequence[FinishedRun]) -> str:
    """A Markdown table of one row for each model: means over seeds, in brackets the standard deviation.

    The newest run sets all parameters but the seed; of two runs of one seed the newest counts.

    Args:
        runs: the newest first.

    Raises:
        UserError: there is no run, or the newest measured no model with these lists.
    """
    if not runs:
        raise UserError("no finished run; `make seeds` first")
    of_seeds: dict[str, FinishedRun] = {}
    for run in runs:
        if _others(run, SEED) == _others(runs[0], SEED):
            of_seeds.setdefault(run.params[SEED], run)
    pattern = re.compile(rf"evaluate_\w+/(\w+)/test/{PROTOCOLS[0]}/{MEASURES[0]}")
    found = [match for match in map(pattern.fullmatch, sorted(runs[0].metrics)) if match]
    if not found:
        raise UserError(f"the newest run has no {MEASURES[0]} of a test; put 10 into evaluate.ks and run again")
    columns = [f"{measure}, history {protocol}" for protocol in PROTOCOLS for measure in MEASURES]
    lines = [f"| model | seeds | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for match in found:
        stem = match.string.removesuffix(f"{PROTOCOLS[0]}/{MEASURES[0]}")
        names = [f"{stem}{protocol}/{measure}" for protocol in PROTOCOLS for measure in MEASURES]
        whole = [run.metrics for run in of_seeds.values() if all(name in run.metrics for name in names)]
        cells = [_mean_and_deviation([metrics[name] for metrics in whole]) for name in names]
        lines.append(f"| {match[1]} | {len(whole)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean_and_deviation(values: Sequence[float]) -> str:
    """
    Example:
        >>> _mean_and_deviation([0.1, 0.2, 0.3]), _mean_and_deviation([0.1])
        ('0.200 (0.100)', '0.100')
    """
    return f"{fmean(values):.3f}" + (f" ({stdev(values):.3f})" if len(values) > 1 else "")


def _others(run: FinishedRun, parameter: str) -> dict[str, str]:
    """The parameters that may not differ between runs that are compared."""
    free = ("track.", "runtime.")
    return {
        name: value for name, value in run.params.items() if name not in (parameter, SEED) and not name.startswith(free)
    }


def _place(value: str) -> tuple[float, str]:
    """Numbers by their size, then words by the alphabet."""
    try:
        return float(value), ""
    except ValueError:
        return math.inf, value


def _check_name(kind: str, name: str, known: Iterable[str]) -> None:
    names = sorted(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        raise UserError(f"no {kind} {name!r} in the newest run" + (f"; near it: {', '.join(near)}" if near else ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parameter", nargs="?", help="the one in which the runs differ; none: the seed alone")
    example = "such as recall_etegrec, or stages/evaluate_etegrec/etegrec/test/kept/recall_at_10"
    parser.add_argument("metrics", nargs="*", help=example)
    arguments = parser.parse_args()
    if arguments.parameter is not None and not arguments.metrics:
        parser.error("name a metric after the parameter")
    run_command(lambda: print(_table(arguments.parameter, arguments.metrics)))


def _table(parameter: str | None, metrics: Sequence[str]) -> str:
    return seeds_table(finished_runs()) if parameter is None else compare(finished_runs(), parameter, metrics)


if __name__ == "__main__":
    main()
