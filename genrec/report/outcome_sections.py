"""Sections 2 and 3: the verdict in one sentence, and every figure with its interval."""

from collections.abc import Mapping, Sequence
from typing import Any

from genrec.report.charts import Chart, Look, chart, forest, matrix
from genrec.report.findings import Findings, Tree
from genrec.report.results_page import REFERENCE, TITLES

Ends = Sequence[float]


def verdict(results: Tree, titles: Mapping[str, str], k: int) -> dict[str, Any]:
    """Which model is best on the test with the history excluded, by how much, and which lose to co-occurrence.

    Returns:
        `best`, `sentence`, and `surely_below`, `perhaps_below`, `surely_above`: titles with differences.
    """
    metric = f"recall_at_{k}"
    recall = {model: results[model]["values"]["test"]["excluded"][metric] for model in titles if model in results}
    order = sorted(recall, key=lambda model: -recall[model])
    best = order[0]
    first = titles[best][0].upper() + titles[best][1:]
    sentence = f"{first} finds the item that a user takes next among its first {k} for {recall[best]:.1%} of the users"
    if len(order) > 1:
        ends = results[best]["pairs"][order[1]][metric]
        sentence += f", {difference_in_words(ends)} {titles[order[1]]}"
    compared = {
        model: results[model]["pairs"][REFERENCE][metric]
        for model in order
        if REFERENCE in results and model != REFERENCE
    }

    def those(test: Any) -> list[str]:
        return [f"{titles[model]} ({signed(ends)})" for model, ends in compared.items() if test(ends)]

    return {
        "best": titles[best],
        "sentence": f"{sentence}.",
        "surely_below": those(lambda ends: ends[2] < 0),
        "perhaps_below": those(lambda ends: ends[0] < 0 <= ends[2]),
        "above": those(lambda ends: ends[0] >= 0),
        "n_models": len(order),
    }


def difference_in_words(ends: Ends) -> str:
    """How far the best is above the second, and whether that is certain.

    Example:
        >>> difference_in_words((0.02, 0.01, 0.03)), difference_in_words((0.0, -0.01, 0.01))
        ('2.0 points (95 % interval 1.0 to 3.0) above', '0.0 points (95 % interval -1.0 to 1.0: not certain) above')
    """
    value, low, high = (100 * end for end in ends)
    doubt = ": not certain" if low <= 0 <= high else ""
    return f"{value:.1f} points (95 % interval {low:.1f} to {high:.1f}{doubt}) above"


def signed(ends: Ends) -> str:
    """A difference and its interval, in points of a hundred."""
    value, low, high = (100 * end for end in ends)
    return f"{value:+.1f} points, {low:+.1f} to {high:+.1f}".replace("-", "\u2212")


def results_section(found: Findings, look: Mapping[str, Look]) -> dict[str, Any]:
    """A table a split and protocol, the forest plot, and all pairs."""
    results, k = found.results, found.k
    models = [model for model in look if model in results]
    return {"tables": [table(found, look, *place) for place in TITLES], "charts": [
        forest_chart(results, look, models, metric, protocol, k)
        for metric in (f"recall_at_{k}", f"ndcg_at_{k}") for protocol in ("excluded", "kept")
    ], "pairs": pairs_chart(results, look, models, k),
            "pairs_table": pairs_table(results, look, models, k)}  # fmt: skip


def table(found: Findings, look: Mapping[str, Look], split: str, protocol: str) -> dict[str, Any]:
    """Rows of (metric, value, low, high), those without an interval with None."""
    k, results = found.k, found.results
    models = [model for model in look if split in results.get(model, {"values": {}})["values"]]
    metrics = [f"{name}_at_{k}" for name in ("recall", "ndcg", "mrr", "coverage", "popularity_bias")]
    rows = []
    for model in models:
        values, ends = (results[model][part][split][protocol] for part in ("values", "intervals"))
        cells = [(metric, values[metric], *ends.get(metric, (None, None))) for metric in metrics]
        extra = [("candidate_recall", values.get("candidate_recall"), None, None)]
        rows.append(
            {"model": model, "title": look[model].title, "colour": look[model].colour, "cells": [*cells, *extra]}
        )
    best = {metric: max(row["cells"][i][1] for row in rows) for i, metric in enumerate(metrics[:3])}
    columns = [f"{name}@{k}" for name in ("recall", "NDCG", "MRR", "coverage", "popularity bias")]
    return {"title": TITLES[split, protocol], "split": split, "protocol": protocol, "rows": rows, "best": best,
            "columns": [*columns, "ceiling"]}  # fmt: skip


def forest_chart(
    results: Tree, look: Mapping[str, Look], models: Sequence[str], metric: str, protocol: str, k: int
) -> Chart:
    """Each model's interval on the test, under one protocol."""
    title = "Recall" if metric.startswith("recall") else "NDCG"
    values, ends = (
        [results[model][part]["test"][protocol][metric] for model in models] for part in ("values", "intervals")
    )
    rows = [(look[model], value, *each) for model, value, each in zip(models, values, ends, strict=True)]
    most, least = (choose(rows, key=lambda row: row[1]) for choose in (max, min))
    said = f"From {least[0].title} with {least[1]:.3f} to {most[0].title} with {most[1]:.3f}; the tables have all."
    return chart(f"forest-{metric.replace('_', '-')}-{protocol}", f"{title}@{k}, history {protocol}", said,
                 forest(rows, f"{title}@{k}"), 90 + 27 * len(rows))  # fmt: skip


def pairs_chart(results: Tree, look: Mapping[str, Look], models: Sequence[str], k: int) -> Chart:
    """Row minus column, in points; what is certain has a star."""
    metric, labels = f"recall_at_{k}", [look[model].title for model in models]
    ends = [[results[a]["pairs"].get(b, {}).get(metric) for b in models] for a in models]
    values = [[None if each is None else 100 * each[0] for each in row] for row in ends]
    texts = [
        ["" if each is None else f"{100 * each[0]:+.1f}{'*' if is_certain(each) else ''}" for each in row]
        for row in ends
    ]
    n_certain = sum(is_certain(each) for row in ends for each in row if each is not None) // 2
    n_pairs = len(models) * (len(models) - 1) // 2
    return chart(
        "pairs", f"Recall@{k}: row minus column, in points",
        f"Of {n_pairs} pairs of models, {n_certain} differ for certain (the paired interval leaves 0 out).",
        matrix(labels, values, texts, centred=True), 230 + 30 * len(models), True,
    )  # fmt: skip


def pairs_table(results: Tree, look: Mapping[str, Look], models: Sequence[str], k: int) -> list[dict[str, Any]]:
    """Each pair once, the better one first, the largest differences first."""
    metric = f"recall_at_{k}"
    rows = [
        {"model": look[a].title, "other": look[b].title, "ends": ends, "is_certain": is_certain(ends)}
        for i, a in enumerate(models)
        for j, b in enumerate(models)
        if i != j
        for ends in [results[a]["pairs"][b][metric]]
        if ends[0] > 0 or (ends[0] == 0 and i < j)
    ]
    return sorted(rows, key=lambda row: -row["ends"][0])


def is_certain(ends: Ends) -> bool:
    """Whether the interval leaves 0 out."""
    return not ends[1] <= 0 <= ends[2]
