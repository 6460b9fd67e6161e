"""Section 5: what lists are like beyond whether they hold the target."""

from collections.abc import Mapping
from typing import Any

from genrec.report.charts import Chart, Look, chart, points
from genrec.report.findings import Findings, Tree

MEASURES = {
    "novelty": "novelty (bits)",
    "code_diversity": "diversity by codes",
    "word_diversity": "diversity by words",
    "serendipity": "serendipity",
    "miscalibration": "miscalibration (nats)",
    "gini": "Gini index",
}
DRAWN = ("novelty", "word_diversity", "code_diversity")


def lists_section(found: Findings, look: Mapping[str, Look]) -> dict[str, Any]:
    """A table of the measures that the data have, and charts of two of them against recall."""
    models = [model for model in look if found.results.get(model, {}).get("lists")]
    names = [name for name in MEASURES if models and _key(found.results[models[0]]["lists"], name)]
    drawn = [name for name in DRAWN if name in names][:2]
    return {
        "columns": [(name, MEASURES[name]) for name in names],
        "length": _length(found.results[models[0]]["lists"]) if models else 0,
        "rows": [row(found.results[model]["lists"], look[model], model, names) for model in models],
        "charts": [against_recall(found, look, models, name) for name in drawn],
    }


def row(lists: Tree, look: Look, model: str, names: list[str]) -> dict[str, Any]:
    """(metric, value, low, high) of each measure, those without an interval with None."""
    cells = []
    for name in names:
        key = _key(lists, name)
        each = lists[key] if key else {"value": None}
        cells.append((key or name, each["value"], each.get("low"), each.get("high")))
    return {"model": model, "title": look.title, "colour": look.colour, "cells": cells}


def against_recall(found: Findings, look: Mapping[str, Look], models: list[str], name: str) -> Chart:
    """A measure of the lists against recall, both on the test with the history excluded."""
    rows = []
    for model in models:
        lists, values = found.results[model]["lists"], found.results[model]["values"]["test"]["excluded"]
        rows.append((look[model], lists[_key(lists, name)]["value"], values[f"recall_at_{found.k}"]))
    most, least = (choose(rows, key=lambda each: each[1]) for choose in (max, min))
    return chart(
        f"lists-{name.replace('_', '-')}", f"{MEASURES[name].capitalize()} against accuracy",
        f"From {least[0].title} with {least[1]:.2f} to {most[0].title} with {most[1]:.2f}.",
        points(rows, MEASURES[name], f"recall@{found.k}"), 440,
    )  # fmt: skip


def _key(lists: Tree, name: str) -> str:
    """A measure's name with the length of the lists, "" where it was not measured."""
    return next((key for key in lists if key.rpartition("_at_")[0] == name), "")


def _length(lists: Tree) -> int:
    return int(next(iter(lists)).rpartition("_")[2])
