"""The view of MLflow's runs that people are sent to: its columns, its charts, its bytes."""

import base64
import json
import zlib
from typing import Any

from genrec.pipeline.runs_view import CURVES, runs_view

HEADLINE = ["ndcg_tiger", "recall_tiger", "coverage"]
METRICS = {
    *HEADLINE,
    "train_tiger/val_ndcg_at_10",
    "train_two_tower/val/ndcg_at_10",
    "train_tiger/train_loss",
    "stages/evaluate_tiger/tiger/test/kept/val_ndcg_at_10",
    "seconds/report",
}


def state_of(view: str) -> dict[str, Any]:
    """As MLflow's page unpacks it."""
    packed = json.loads(view)["state"].removeprefix("deflate;")
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def test_the_headline_figures_are_the_columns_in_their_order() -> None:
    state = state_of(runs_view(HEADLINE, METRICS, 7))
    assert state["selectedColumns"][1:] == ["metrics.`ndcg_tiger`", "metrics.`recall_tiger`", "metrics.`coverage`"]
    assert state["columnOrder"] == state["selectedColumns"]


def test_what_differs_stands_above_the_figures_and_the_figures_above_the_curves() -> None:
    charts = state_of(runs_view(HEADLINE, METRICS, 7))["compareRunCharts"]
    assert [chart["type"] for chart in charts] == ["DIFFERENCE", "BAR", "BAR", "BAR", "LINE", "LINE"]
    assert [chart["metricKey"] for chart in charts[1:4]] == HEADLINE
    assert charts[4]["selectedMetricKeys"] == ["train_tiger/val_ndcg_at_10", "train_two_tower/val/ndcg_at_10"]
    assert list(CURVES)[2] not in [chart.get("displayName") for chart in charts]  # no such curve here


def test_hundreds_of_other_figures_stay_in_sections_that_start_closed() -> None:
    sections = state_of(runs_view(HEADLINE, METRICS, 7))["compareRunSections"]
    assert [section["name"] for section in sections if section["display"]] == ["Headline", "Training"]
    closed = {section["name"] for section in sections if not section["display"]}
    assert closed == {name.rpartition("/")[0] for name in METRICS} - {""}
    assert len({section["uuid"] for section in sections}) == len(sections)


def test_the_same_figures_have_the_same_view_and_it_fits_into_a_tag() -> None:
    many = [f"ndcg_model_{i}" for i in range(30)]
    others = {
        f"stages/evaluate_{i}/model_{i}/{split}/kept/ndcg" for i in range(100) for split in ("test", "validation")
    }
    view = runs_view(many, others, 7)
    assert view == runs_view(many, set(sorted(others, reverse=True)), 7)
    assert len(view) < 5000
