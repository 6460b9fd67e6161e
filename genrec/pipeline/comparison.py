"""A sweep as one table: finished runs that differ in one parameter, or in the seed alone, averaged over seeds.

dvc exp run --queue -S 'train_etegrec.variant=full,no_sia,no_psa' -S 'seed=1,2,3' && dvc queue start
python -m genrec.pipeline.comparison train_etegrec.variant recall_etegrec ndcg_etegrec

make seeds                              # the default by five seeds, which the queue runs one after the other
python -m genrec.pipeline.comparison    # the README's table: each model's mean over the seeds, its standard deviation
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
from genrec.generators.titles import model_titles
from genrec.pipeline.command import run_command
from genrec.pipeline.tracking import FinishedRun, finished_runs

SEED = "seed"
PROTOCOLS = ("excluded", "kept")
MEASURES = {"recall_at_10": "recall@10", "ndcg_at_10": "NDCG@10"}


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
    """A Markdown table of one row for each model: means over seeds, behind each the standard deviation.

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
    prefixes = _models(runs[0])
    if not prefixes:
        raise UserError("the newest run has no recall_at_10 of a test; put 10 into evaluate.ks and run again")
    columns = [f"{title}, history {protocol}" for protocol in PROTOCOLS for title in MEASURES.values()]
    lines = [f"| | seeds | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for model, prefix in prefixes.items():
        names = [f"{prefix}/{protocol}/{measure}" for protocol in PROTOCOLS for measure in MEASURES]
        whole = [run.metrics for run in of_seeds.values() if all(name in run.metrics for name in names)]
        cells = [_mean_and_deviation([metrics[name] for metrics in whole]) for name in names]
        lines.append(f"| {model_titles()[model]} | {len(whole)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _models(run: FinishedRun) -> dict[str, str]:
    """The models of which a run measured the test, in the order of tables, and how the names of those figures begin."""
    pattern = re.compile(rf"(stages/evaluate_\w+/(\w+)/test)/{PROTOCOLS[0]}/{next(iter(MEASURES))}")
    found = {match[2]: match[1] for match in map(pattern.fullmatch, run.metrics) if match}
    return {model: found[model] for model in model_titles() if model in found}


def _mean_and_deviation(values: Sequence[float]) -> str:
    """
    Example:
        >>> _mean_and_deviation([0.1, 0.2, 0.3]), _mean_and_deviation([0.1])
        ('.200 ± .100', '.100')
    """
    shown = f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
    return shown.replace("0.", ".")


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
