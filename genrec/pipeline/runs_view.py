"""The view of the runs that people are sent to: which columns and charts MLflow's page shows.

The page keeps its state in the reader's browser, and what is shared of it in a tag of the experiment. MLflow documents
neither; the fields are those of its own ExperimentPageUIState and RunsChartsCardConfig (mlflow 3.17, checked in a
browser by tests/pipeline/test_ui.py). A release that does not know them shows its own view, and says so.
"""

import base64
import json
import zlib
from collections.abc import Collection, Sequence
from typing import Any

KEY = "headline"
TAG = f"mlflow.sharedViewState.{KEY}"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The tag by which MLflow shows an experiment as machine learning and not as conversations with a language model."""
SWEEP = "sweep"
"""The tag that the experiments of one `dvc exp run --queue -n NAME` share."""

CURVES = {
    "Validation NDCG@10": ("val_ndcg_at_10", "val/ndcg_at_10"),
    "Training loss": ("train_loss", "train/loss"),
    "Collisions of the tokenizer": ("val_collision_rate",),
}


def runs_address(server: str, experiment_id: str) -> str:
    """The page of an experiment's runs in this view, also for a browser that has never seen MLflow.

    Example:
        >>> runs_address("http://127.0.0.1:5000", "1")
        'http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=headline'
    """
    query = f"workflowType=machine_learning&viewStateShareKey={KEY}"
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"


def runs_view(headline: Sequence[str], metrics: Collection[str], created: int) -> str:
    """The tag's value: the headline figures as columns in their order, then what differs between runs, then curves.

    Args:
        headline: names of figures.
        metrics: all names of a run; what follows a slash is a curve, or belongs to a section that starts closed.
        created: when the experiment was, in milliseconds: the same view has the same bytes.
    """
    curves = {
        title: [name for name in sorted(metrics) if name.startswith("train_") and name.partition("/")[2] in columns]
        for title, columns in CURVES.items()
    }
    sections = [("figures", "Headline", True), ("curves", "Training", True)]
    closed = sorted({name.rpartition("/")[0] for name in metrics if "/" in name})
    sections += [(f"rest-{i}", name, False) for i, name in enumerate(closed)]
    state = {
        "selectedColumns": ["attributes.`Created`", *(f"metrics.`{name}`" for name in headline)],
        "runsHiddenMode": "FIRST_20_RUNS",
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": uuid, "name": name, "display": is_open, "isReordered": True, "deleted": False}
            for uuid, name, is_open in sections
        ],
        "compareRunCharts": [
            _chart("parameters", "figures", type="DIFFERENCE", displayName="Parameters that differ",
                compareGroups=["Parameters"], chartName="Parameters that differ", showDifferencesOnly=True,
                showChangeFromBaseline=True, baselineColumnUuid=""),
            *(_chart(f"bar-{name}", "figures", type="BAR", metricKey=name) for name in headline),
            *(
                _chart(f"curve-{i}", "curves", type="LINE", displayName=title, metricKey=names[0],
                    selectedMetricKeys=names, lineSmoothness=0, scaleType="linear", xAxisKey="step",
                    xAxisScaleType="linear", selectedXAxisMetricKey="", yAxisKey="metric", yAxisExpressions=[],
                    ignoreOutliers=False, useGlobalXaxisKey=True, useGlobalLineSmoothing=True)
                for i, (title, names) in enumerate(curves.items())
                if names
            ),
        ],
    }  # fmt: skip
    text = json.dumps(state, separators=(",", ":")).encode()
    packed = "deflate;" + base64.b64encode(zlib.compress(text, 9)).decode()  # a tag holds 5,000 characters
    return json.dumps({"name": "Headline figures", "createdAt": created, "updatedAt": created, "state": packed})


def _chart(uuid: str, section: str, **settings: Any) -> dict[str, Any]:
    return {"uuid": uuid, "metricSectionId": section, "deleted": False, "isGenerated": False, **settings}
