"""Put all evaluations side by side: a page and figures for people, a file for programs, tables for plots."""

from pathlib import Path

from genrec.evaluation.figures import differences
from genrec.generators.entry import generators
from genrec.params.evaluate import Evaluate
from genrec.params.reading import read_section, read_seed
from genrec.pipeline.command import run_stage
from genrec.report.headline import headline, headline_json
from genrec.report.plot_tables import code_usage, ndcg_of_models, recall_by_frequency
from genrec.report.results_page import merge_results, references, results_page, shown_k
from genrec.sequences.histories import Histories
from genrec.storage.files import load_arrays, written
from genrec.storage.output import read_metrics, write_metrics

HISTORIES = Path("data/prepared/histories.npz")
STATISTICS = Path("reports/prepare_data/metrics.json")
TOKENIZER = Path("reports/train_rqvae/metrics.json")
BASELINES = Path("reports/evaluate_baselines/metrics.json")
BASELINES_INTERVALS = Path("reports/evaluate_baselines/intervals.json")
BASELINES_RANKS = Path("data/ranks/baselines.npz")
RANKER = Path("reports/evaluate_ranker/metrics.json")
RANKER_INTERVALS = Path("reports/evaluate_ranker/intervals.json")
RANKER_RANKS = Path("data/ranks/ranker.npz")
PAGE = Path("reports/results.md")
RESULTS = Path("reports/results.json")
HEADLINE = Path("reports/headline.json")
PLOTS = Path("reports/plots")


def main() -> None:
    of_generators = generators()
    metrics = [BASELINES, *(generator.metrics for generator in of_generators), RANKER]
    intervals = [BASELINES_INTERVALS, *(generator.intervals for generator in of_generators), RANKER_INTERVALS]
    ranks = [BASELINES_RANKS, *(generator.ranks_file for generator in of_generators), RANKER_RANKS]
    config = read_section(Evaluate)
    of_users = {name: array for file in ranks for name, array in load_arrays(file).items()}
    results = merge_results(
        metrics=[read_metrics(file) for file in metrics],
        intervals=[read_metrics(file) for file in intervals],
        differences=differences(
            of_users, references, config.ks, config.bootstrap_samples, read_seed(),
        ),
    )  # fmt: skip
    tokenizer = read_metrics(TOKENIZER)
    write_metrics(results, RESULTS)
    texts = {
        PAGE: results_page(results, read_metrics(STATISTICS)),
        HEADLINE: headline_json(headline(results, tokenizer)),
        PLOTS / "ndcg.csv": ndcg_of_models(results),
        PLOTS / "recall_by_frequency.csv": recall_by_frequency(of_users, Histories.load(HISTORIES), shown_k(results)),
        PLOTS / "code_usage.csv": code_usage(tokenizer),
    }
    for file, text in texts.items():
        with written(file) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_stage(main, __doc__)
