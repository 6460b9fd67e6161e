"""Section 9: how training went."""

import re
from typing import Any

import pandas as pd

from genrec.report.charts import Chart, chart, curves
from genrec.report.findings import Findings

PANELS = {  # in the order of the page; a column belongs to the first whose pattern it holds
    "loss": r"(?<!psa_)(?<!sia_)loss|weighted_.ia_loss|weighted_psa_loss",
    "alignment before weighting": r"sia_loss|psa_loss",
    "validation": r"ndcg_at_10|auc|recall_at_10",
    "codes, shares": r"churn|collision|usage|entropy",
    "codes that were restarted": r"restarted",
    "gradient norm": r"grad_norm",
}
MOST_POINTS = 120


def training_section(found: Findings) -> dict[str, Any]:
    """The charts of each stage that trained."""
    return {
        "stages": [
            {"name": stage.replace("_", " "), "said": reached(found, stage, curve), "charts": charts_of(stage, curve)}
            for stage, curve in found.curves.items()
        ]
    }


def reached(found: Findings, stage: str, curve: pd.DataFrame) -> str:
    """How many epochs there were, and the best of them."""
    figures = found.figures.get(stage, {})
    best = [f"{name.replace('_', ' ')}: {value:.4g}" for name, value in figures.items() if name.startswith("best_")]
    return "; ".join([f"{len(curve)} epochs", *best]) + "."


def charts_of(stage: str, curve: pd.DataFrame) -> list[Chart]:
    """Losses, validation figures, codes and gradient norms, as far as a stage has them."""
    groups: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for column in curve.columns:
        panel = next((name for name, pattern in PANELS.items() if re.search(pattern, column)), None)
        known = curve[["epoch", column]].dropna() if column != "epoch" else curve.iloc[:0]
        if panel is not None and len(known):
            known = known.iloc[:: 1 + len(known) // MOST_POINTS]
            groups.setdefault(panel, {})[column] = (known["epoch"].tolist(), known[column].astype(float).tolist())
    return [panel_chart(stage, name, groups[name]) for name in PANELS if name in groups]


def panel_chart(stage: str, panel: str, series: dict[str, tuple[list[float], list[float]]]) -> Chart:
    """One panel, with the names below and in words where each line ends."""
    said = ", ".join(f"{name} {y[-1]:.4g}" for name, (_, y) in series.items())
    name = f"{stage}-{panel}".replace(" ", "-").replace(",", "").replace("_", "-")
    below = 20 * len(series)
    legend = {"orientation": "v", "y": -0.26, "yanchor": "top", "x": 0}
    margin = {"l": 56, "r": 12, "t": 12, "b": 70 + below}
    drawn = curves(series, "")
    return chart(name, panel.capitalize(), f"At the end: {said}.", drawn, 280 + below, legend=legend, margin=margin)
