"""Put all evaluations side by side: a page for people, a file for programs."""

from pathlib import Path

from genrec.evaluation.figures import differences
from genrec.params import Evaluate, read_section, read_seed
from genrec.pipeline.command import run_stage
from genrec.report.results_page import merge_results, references, results_page
from genrec.storage.files import load_arrays, written
from genrec.storage.output import read_metrics, write_metrics

STATISTICS = Path("reports/prepare_data/metrics.json")
BASELINES = Path("reports/evaluate_baselines/metrics.json")
BASELINES_INTERVALS = Path("reports/evaluate_baselines/intervals.json")
SASREC = Path("reports/evaluate_sasrec/metrics.json")
SASREC_INTERVALS = Path("reports/evaluate_sasrec/intervals.json")
TIGER = Path("reports/evaluate_tiger/metrics.json")
TIGER_INTERVALS = Path("reports/evaluate_tiger/intervals.json")
ETEGREC = Path("reports/evaluate_etegrec/metrics.json")
ETEGREC_INTERVALS = Path("reports/evaluate_etegrec/intervals.json")
TWO_TOWER = Path("reports/evaluate_two_tower/metrics.json")
TWO_TOWER_INTERVALS = Path("reports/evaluate_two_tower/intervals.json")
RANKER = Path("reports/evaluate_ranker/metrics.json")
RANKER_INTERVALS = Path("reports/evaluate_ranker/intervals.json")
BASELINES_RANKS = Path("data/ranks/baselines.npz")
SASREC_RANKS = Path("data/ranks/sasrec.npz")
TIGER_RANKS = Path("data/ranks/tiger.npz")
ETEGREC_RANKS = Path("data/ranks/etegrec.npz")
TWO_TOWER_RANKS = Path("data/ranks/two_tower.npz")
RANKER_RANKS = Path("data/ranks/ranker.npz")
PAGE = Path("reports/results.md")
RESULTS = Path("reports/results.json")


def main() -> None:
    metrics = (BASELINES, SASREC, TIGER, ETEGREC, TWO_TOWER, RANKER)
    intervals = (
        BASELINES_INTERVALS, SASREC_INTERVALS, TIGER_INTERVALS, ETEGREC_INTERVALS, TWO_TOWER_INTERVALS,
        RANKER_INTERVALS,
    )  # fmt: skip
    ranks = (BASELINES_RANKS, SASREC_RANKS, TIGER_RANKS, ETEGREC_RANKS, TWO_TOWER_RANKS, RANKER_RANKS)
    config = read_section(Evaluate)
    results = merge_results(
        metrics=[read_metrics(file) for file in metrics],
        intervals=[read_metrics(file) for file in intervals],
        differences=differences(
            {name: array for file in ranks for name, array in load_arrays(file).items()},
            references, config.ks, config.bootstrap_samples, read_seed(),
        ),
    )  # fmt: skip
    with written(PAGE) as partial:
        partial.write_text(results_page(results, read_metrics(STATISTICS)), encoding="utf-8")
    write_metrics(results, RESULTS)


if __name__ == "__main__":
    run_stage(main, __doc__)
