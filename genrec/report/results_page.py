"""All evaluations as one table that people read and one file that programs read."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from genrec.generators.entry import generators

REFERENCE = "item_knn"
TITLES = {
    ("test", "excluded"): "Test, items of the history excluded",
    ("test", "kept"): "Test, items of the history kept",
    ("validation", "excluded"): "Validation, items of the history excluded",
    ("validation", "kept"): "Validation, items of the history kept",
}

Tree = Mapping[str, Any]


@cache
def model_titles() -> dict[str, str]:
    """The rows of the tables, from above: the baselines, then each generator and its candidates in a ranker's order."""
    titles = {"popularity": "popularity", REFERENCE: "item co-occurrence"}
    for generator in generators():
        titles[generator.name] = generator.title
        if generator.code_table is not None:
            titles[generator.ranked_name] = f"{generator.title}, ranked"
    return titles


def merge_results(metrics: Sequence[Tree], intervals: Sequence[Tree]) -> dict[str, Any]:
    """One tree of all models: model -> `values` or `intervals` -> split -> protocol -> metric.

    Raises:
        ValueError: a model has no row, so that it would vanish from the tables.
    """
    values = {model: tree for evaluation in metrics for model, tree in evaluation.items()}
    ends = {model: tree for evaluation in intervals for model, tree in evaluation.items()}
    unknown = sorted(values.keys() - model_titles().keys())
    if unknown:
        raise ValueError(f"each model must have an entry in genrec/generators/, {', '.join(unknown)} has none; add it")
    return {model: {"values": values[model], "intervals": ends[model]} for model in values}


def results_page(results: Tree, statistics: Tree) -> str:
    """A Markdown page: what was measured on what, then a table for each split and protocol."""
    ks = _ks(next(iter(results.values()))["values"])
    k = 10 if 10 in ks else max(ks)
    sections = [_table(results, split, protocol, ks, k) for split, protocol in TITLES]
    return "\n\n".join([_introduction(statistics), *sections]) + "\n"


def _introduction(statistics: Tree) -> str:
    return (
        "# Results\n\n"
        f"{statistics['n_users']:,} users, {statistics['n_items']:,} items, {statistics['n_interactions']:,} "
        "interactions. Leave-one-out: the last interaction of each user is tested, the last but one validates. "
        "Full ranking of all items, none sampled; of equal scores the lower item_id ranks first. Models are chosen on "
        "validation. In brackets: 95 % bootstrap intervals over users. Popularity bias: training interactions of the "
        "recommended items over those of the items that users really took (1 = as popular). Invalid beams: the share "
        "of an unconstrained search's beams that are no item; all ranked lists come from the constrained search. "
        "Ranked: the model's candidates in a ranker's order; their recall is the ceiling that no order passes. Rankers "
        "learned from validation targets, so they are only tested."
    )


def _table(results: Tree, split: str, protocol: str, ks: Sequence[int], k: int) -> str:
    columns = [f"recall_at_{each}" for each in ks] + [f"ndcg_at_{each}" for each in ks]
    columns += [f"mrr_at_{k}", f"coverage_at_{k}", f"popularity_bias_at_{k}"]
    header = ["model", *(_title(column) for column in columns), "invalid beams", "ceiling"]
    rows = [_row(model, results[model], split, protocol, columns, k) for model in _measured(results, split)]
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {TITLES[split, protocol]}\n\n{table}\n\n{_verdict(results, split, protocol, k)}"


def _row(model: str, result: Tree, split: str, protocol: str, columns: Sequence[str], k: int) -> list[str]:
    values, intervals = result["values"][split][protocol], result["intervals"][split][protocol]
    cells = [f"{values[column]:.4f}" for column in columns]
    for i, column in enumerate(columns):
        if column.endswith(f"_at_{k}") and column in intervals:
            low, high = intervals[column]
            cells[i] += f" [{low:.4f}, {high:.4f}]"
    share = result["values"].get("invalid_beams_share")
    ceiling = values.get("candidate_recall")
    return [model_titles()[model], *cells, *("" if each is None else f"{each:.4f}" for each in (share, ceiling))]


def _measured(results: Tree, split: str) -> list[str]:
    """The models that have figures of a split: rankers learn from validation and are only tested."""
    return [model for model in model_titles() if split in results.get(model, {"values": {}})["values"]]


def _verdict(results: Tree, split: str, protocol: str, k: int) -> str:
    """Which models lose to item co-occurrence, and whether the interval leaves that open."""
    metric = f"recall_at_{k}"
    reference = results[REFERENCE]["values"][split][protocol][metric]
    losers = []
    for model in _measured(results, split):
        if results[model]["values"][split][protocol][metric] >= reference:
            continue
        is_open = results[model]["intervals"][split][protocol][metric][1] >= reference
        losers.append(f"{model_titles()[model]}{' (its interval reaches it)' if is_open else ''}")
    if not losers:
        return f"No model is below {model_titles()[REFERENCE]} at {_title(metric)}."
    return f"**Below {model_titles()[REFERENCE]} at {_title(metric)}:** {', '.join(losers)}."


def _title(column: str) -> str:
    """`popularity_bias_at_10` as `popularity bias@10`."""
    return column.replace("_at_", "@").replace("_", " ")


def _ks(values: Tree) -> list[int]:
    names = values["test"]["kept"]
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"recall_at_(\d+)", name)))
