"""Put all evaluations side by side: a page for people, a file for programs."""

from pathlib import Path

from genrec.evaluation.figures import differences
from genrec.generators.entry import generators
from genrec.params.evaluate import Evaluate
from genrec.params.reading import read_section, read_seed
from genrec.pipeline.command import run_stage
from genrec.report.results_page import merge_results, references, results_page
from genrec.storage.files import load_arrays, written
from genrec.storage.output import read_metrics, write_metrics

STATISTICS = Path("reports/prepare_data/metrics.json")
BASELINES = Path("reports/evaluate_baselines/metrics.json")
BASELINES_INTERVALS = Path("reports/evaluate_baselines/intervals.json")
BASELINES_RANKS = Path("data/ranks/baselines.npz")
RANKER = Path("reports/evaluate_ranker/metrics.json")
RANKER_INTERVALS = Path("reports/evaluate_ranker/intervals.json")
RANKER_RANKS = Path("data/ranks/ranker.npz")
PAGE = Path("reports/results.md")
RESULTS = Path("reports/results.json")


def main() -> None:
    of_generators = generators()
    metrics = [BASELINES, *(generator.metrics for generator in of_generators), RANKER]
    intervals = [BASELINES_INTERVALS, *(generator.intervals for generator in of_generators), RANKER_INTERVALS]
    ranks = [BASELINES_RANKS, *(generator.ranks_file for generator in of_generators), RANKER_RANKS]
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
