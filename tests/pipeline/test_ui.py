"""`make ui` says where the runs are, and a browser that never saw MLflow finds a run's headline figures there."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from browser import Browser
from fake_pipeline import PROJECT, Pipeline

from genrec.pipeline import ui
from genrec.pipeline.run_store import Store
from genrec.pipeline.tracking import publish

# SQLAlchemy 2.1 about MLflow's own tables.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


@pytest.fixture
def published(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Two experiments of a sweep."""
    for code_num, ndcg in ((32, 0.4321), (64, 0.5678)):
        pipeline.write(code_num=code_num)
        figures = {"ndcg_tiger": ndcg, "recall_tiger": 0.8765, "coverage": 0.1234}
        (pipeline.folder / "reports/headline.json").write_text(json.dumps(figures))
        monkeypatch.setenv("DVC_EXP_NAME", f"codes-{code_num}")
        publish()
    return pipeline


@pytest.fixture
def server(published: Pipeline) -> Iterator[str]:
    """The line that `make ui` prints; the server may still be starting."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "genrec.pipeline.ui", "--port", port]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(
        command, cwd=published.folder, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        yield process.stdout.readline()
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_the_address_that_it_prints_shows_the_headline_figures_to_a_fresh_browser(
    browser: Browser, server: str
) -> None:
    address = server.split()[-1]
    browser.open_when_it_answers(address)
    text = browser.wait_for("ndcg_tiger", "recall_tiger", "codes-32", "codes-64", "0.4321", "0.5678", seconds=120)
    assert "Judges" not in text.splitlines()  # of the pages about language models
    assert "Error loading shared view state" not in text


@pytest.mark.slow
def test_a_run_begins_with_its_headline_figures_and_the_way_back(
    browser: Browser, server: str, published: Pipeline
) -> None:
    run = published.runs()[0]
    page = server.split()[-1].partition("/runs?")[0]
    browser.open_when_it_answers(f"{page}/runs/{run.info.run_id}")
    text = browser.wait_for("codes-32", "To get this state back", "results.md", "0.4321", seconds=120)
    assert text.index("0.4321") < text.index("To get this state back") < text.index("train_tiger/train_loss")


def test_a_server_of_others_is_named_and_none_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def opened() -> tuple[Store, str]:
        return Store("https://ann:secret@runs.example.org", None, None), "3"

    monkeypatch.setattr(ui, "opened_experiment", opened)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("started a server"))
    ui.serve(5000)
    assert "https://runs.example.org/#/experiments/3/runs?" in capsys.readouterr().out


def test_an_experiment_is_marked_as_machine_learning_also_an_old_one(pipeline: Pipeline) -> None:
    pipeline.client.create_experiment("genrec")
    publish()
    kind = pipeline.client.get_experiment_by_name("genrec").tags["mlflow.experimentKind"]
    assert kind == "custom_model_development"


def test_a_mark_that_somebody_has_set_stays(pipeline: Pipeline) -> None:
    pipeline.client.create_experiment("genrec", tags={"mlflow.experimentKind": "genai_development"})
    publish()
    assert pipeline.client.get_experiment_by_name("genrec").tags["mlflow.experimentKind"] == "genai_development"


def test_experiments_of_one_sweep_share_a_tag(published: Pipeline) -> None:
    assert {run.data.tags["sweep"] for run in published.runs()} == {"codes"}
