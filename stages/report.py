"""Put all evaluations side by side: pages and figures for people, a file for programs, tables for plots."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from genrec.codes.item_embeddings import load_embeddings
from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.data.words import item_categories, item_words
from genrec.evaluation.audit import Audit
from genrec.evaluation.evaluator import load_ranks
from genrec.evaluation.figures import differences
from genrec.evaluation.list_figures import ListMeasurer
from genrec.evaluation.tokenization import likeness_by_prefix, lost_by_level
from genrec.generators.entry import generators, proposing_generators
from genrec.params.evaluate import Evaluate
from genrec.params.model import Model
from genrec.params.reading import read_section, read_seed, read_settings, read_yaml
from genrec.pipeline.command import run_stage
from genrec.report.comparisons import comparisons, groups_of_users
from genrec.report.findings import Codes, Findings, item_names, known_times
from genrec.report.headline import headline, headline_json
from genrec.report.new_items import new_items_text, of_state, state_of
from genrec.report.page import report_page
from genrec.report.plot_tables import code_usage, ndcg_of_models, recall_by_frequency
from genrec.report.results_page import merge_results, references, results_page
from genrec.retrieval.candidates import Candidates
from genrec.sequences.histories import EVALUATED_SPLITS, Histories
from genrec.storage.checkpoint import load_model
from genrec.storage.files import load_arrays, written
from genrec.storage.output import read_metrics, read_parquet, write_metrics

HISTORIES = Path("data/prepared/histories.npz")
INTERACTIONS = Path("data/prepared/interactions.parquet")
ITEMS = Path("data/prepared/items.parquet")
EMBEDDINGS = Path("data/item_embeddings.npy")
TOKENIZER = Path("data/models/rqvae.ckpt")
CODE_TABLE = Path("data/code_table.npy")  # the tokenizer's own
CANDIDATES = Path("data/candidates")
STATISTICS = Path("reports/prepare_data/metrics.json")
TOKENIZER_FIGURES = Path("reports/train_rqvae/metrics.json")
TOKENIZER_CURVES = Path("reports/train_rqvae/history.csv")
CODE_TABLE_FIGURES = Path("reports/build_code_table/metrics.json")
DIGITS_FIGURES = Path("reports/build_digits/metrics.json")
TRANSITIONS_FIGURES = Path("reports/count_transitions/metrics.json")
RANKER_CURVES = Path("reports/train_ranker/history.csv")
BASELINES = Path("reports/evaluate_baselines/metrics.json")
BASELINES_INTERVALS = Path("reports/evaluate_baselines/intervals.json")
BASELINES_RANKS = Path("data/ranks/baselines.npz")
RANKER = Path("reports/evaluate_ranker/metrics.json")
RANKER_INTERVALS = Path("reports/evaluate_ranker/intervals.json")
RANKER_RANKS = Path("data/ranks/ranker.npz")
NEW_ITEMS = Path("reports/new_items.json")
PIPELINE = Path("dvc.yaml")
TABLES = Path("reports/results.md")
RESULTS = Path("reports/results.json")
PAGE = Path("reports/report.html")
HEADLINE = Path("reports/headline.json")
PLOTS = Path("reports/plots")

LIBRARIES = ("torch", "pytorch-lightning", "numpy", "scipy", "pandas", "pyarrow", "dvc", "mlflow", "plotly")


def main() -> None:
    of_generators, config, model, seed = generators(), read_section(Evaluate), read_section(Model), read_seed()
    metrics = [BASELINES, *(generator.metrics for generator in of_generators), RANKER]
    intervals = [BASELINES_INTERVALS, *(generator.intervals for generator in of_generators), RANKER_INTERVALS]
    files = [BASELINES_RANKS, *(generator.ranks_file for generator in of_generators), RANKER_RANKS]
    ranks: dict[str, np.ndarray] = {}
    items: dict[str, np.ndarray] = {}
    for file in files:
        of_users, listed = load_ranks(file)
        ranks, items = {**ranks, **of_users}, {**items, **listed}
    histories, statistics = Histories.load(HISTORIES), read_metrics(STATISTICS)
    user_ids: dict[str, np.ndarray] = {
        split: histories.users_of(histories.examples(split)) for split in EVALUATED_SPLITS
    }
    seconds = read_parquet(INTERACTIONS, ["time"])["time"].to_numpy()
    times = known_times(seconds, statistics["rows_read"])
    on_test = {name.partition("/")[0]: each for name, each in ranks.items() if name.endswith("/test/excluded")}
    k = 10 if 10 in config.ks else max(config.ks)
    measurer = list_measurer(histories, config.bootstrap_samples, seed)
    compared = comparisons(
        on_test, groups_of_users(histories, times), k, config.bootstrap_samples, seed, user_ids["test"]
    )
    results = merge_results(
        metrics=[read_metrics(file) for file in metrics],
        intervals=[read_metrics(file) for file in intervals],
        differences=differences(ranks, references, config.ks, config.bootstrap_samples, seed, user_ids),
        comparisons={
            model: {**each, "lists": measurer.figures(items[model][:, :k])} for model, each in compared.items()
        },
    )  # fmt: skip
    write_metrics(results, RESULTS)
    tokenizer, settings = read_metrics(TOKENIZER_FIGURES), read_settings()
    new_items = of_state(
        read_metrics(NEW_ITEMS) if NEW_ITEMS.is_file() else None, state_of([HISTORIES, ITEMS], settings)
    )
    texts = {
        TABLES: f"{results_page(results, statistics)}\n{new_items_text(new_items)}\n",
        HEADLINE: headline_json(headline(results, tokenizer)),
        PLOTS / "ndcg.csv": ndcg_of_models(results),
        PLOTS / "recall_by_frequency.csv": recall_by_frequency(results),
        PLOTS / "code_usage.csv": code_usage(tokenizer),
    }
    for file, text in texts.items():
        with written(file) as partial:
            partial.write_text(text, encoding="utf-8")

    pipeline = read_yaml(PIPELINE)["stages"]
    names, has_titles = item_names(read_parquet(ITEMS))
    audited = [generator for generator in of_generators if generator.ranks == "beams"]
    found = Findings(
        results=read_metrics(RESULTS),  # as programs read them, rounded
        statistics=statistics,
        histories=histories,
        names=names,
        has_titles=has_titles,
        times=times,
        ranks=on_test,
        items=items,
        codes=code_tables(histories.n_items),
        code_num=model.code_num,
        audits={
            generator.name: Audit.load(generator.audit_file) for generator in audited if generator.audit_file.is_file()
        },
        candidates={
            generator.name: Candidates.load(file, user_ids["test"], histories.n_items)
            for generator in proposing_generators()
            for file in [CANDIDATES / f"{generator.name}_test.parquet"]
        },
        curves={
            file.parent.name: pd.read_csv(file)
            for file in [TOKENIZER_CURVES, *(generator.curves for generator in of_generators), RANKER_CURVES]
            if file.is_file()  # residual k-means has no epochs
        },
        figures=figures_of_stages(pipeline),
        new_items=new_items,
        settings=settings,
        stages={name: stage for name, stage in pipeline.items() if name != "track"},
        versions={name: version(name) for name in LIBRARIES},
    )
    with written(PAGE) as partial:
        partial.write_text(report_page(found), encoding="utf-8")


def list_measurer(histories: Histories, n_resamples: int, seed: int) -> ListMeasurer:
    """What measures lists by the tokenizer's codes and by the item table."""
    items = read_parquet(ITEMS)
    codes = load_arrays(CODE_TABLE)["array"][:, :-1]
    return ListMeasurer(histories, codes, item_words(items), item_categories(items), n_resamples, seed)


def figures_of_stages(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """What the stages before this one reached, by name: those whose reports are among its dependencies.

    Not whatever lies in reports/: a stage that comes later may have left its figures there, or not yet.
    """
    declared = pipeline["report"]["deps"]
    folders = {name: STATISTICS.parents[1] / name for name in pipeline}
    return {name: read_metrics(folder / STATISTICS.name) for name, folder in folders.items() if str(folder) in declared}


def code_tables(n_items: int) -> list[Codes]:
    """Each code table that describes items to a ranker, with whose it is; the tokenizer's own first."""
    embeddings = load_embeddings(EMBEDDINGS, n_items)[1:]
    titles: dict[Path, list[str]] = {CODE_TABLE: []}
    for generator in proposing_generators():
        titles.setdefault(generator.described_by(), []).append(generator.title)
    features = torch.from_numpy(embeddings)
    tokenizer = load_model(RqVaeNetwork, TOKENIZER, input_dim=features.shape[1]).eval()
    found = []
    for file, of_generators in titles.items():
        table = load_arrays(file)["array"][1:]
        likeness = likeness_by_prefix(embeddings, table)
        lost = lost_by_level(tokenizer, features) if file == CODE_TABLE else []
        title = (
            f"tokenizer ({', '.join(of_generators)})" if file == CODE_TABLE else f"{', '.join(of_generators)}, its own"
        )
        found.append(Codes(title, table, likeness, lost))
    return found


if __name__ == "__main__":
    run_stage(main, __doc__)
