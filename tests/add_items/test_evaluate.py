"""The command that measures new items: what it trains on, what it writes, and that nothing else is touched."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from faults.stages_in_processes import run_stage_process, write_params

from genrec.add_items import evaluate
from genrec.add_items.holdout import HeldOut
from genrec.params.reading import read_params, read_settings
from genrec.report.new_items import of_state, state_of
from genrec.sequences.histories import Histories
from genrec.storage.output import read_metrics, read_parquet, write_parquet

WORDS = {"extract_embeddings": {"words": {"dim": 4}}, "build_digits": {"word_digits": 2}}
COLOURS = ("red", "green", "blue", "grey")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Tiny data of 40 items that have words, prepared."""
    synthetic = {"fetch_data": {"synthetic": {"n_users": 60, "n_items": 40}}}
    write_params(tmp_path, synthetic, WORDS)
    for stage in ("fetch_data", "prepare_data"):
        answer = run_stage_process(tmp_path, stage)
        assert answer.status == 0, answer.said
    monkeypatch.chdir(tmp_path)
    read_params.cache_clear()
    items = read_parquet(evaluate.ITEMS)
    titles = [f"{COLOURS[item % 4]} {COLOURS[item % 3]} film{item % 7}" for item in items["item_id"]]
    write_parquet(items.assign(movie_title=titles), evaluate.ITEMS)
    yield tmp_path
    read_params.cache_clear()


@pytest.mark.slow
def test_each_model_is_measured_of_this_state_and_nothing_is_left_behind(project):
    before = {file for file in project.rglob("*") if file.is_file()}
    evaluate.main([])
    figures = read_metrics(evaluate.NEW_ITEMS)
    settings = read_settings()
    assert of_state(figures, state_of([evaluate.HISTORIES, evaluate.ITEMS], settings)) is figures
    assert (figures["n_new_items"], figures["n_known_items"]) == (2, 38)
    rows = figures["rows"]
    assert list(dict.fromkeys(row["model"] for row in rows)) == ["words", "parallel", "tiger"]
    n_users = Histories.load(evaluate.HISTORIES).n_users
    assert {row["n_new"] + row["n_known"] for row in rows} == {n_users}
    assert all(low <= value <= high for row in rows for value, low, high in [row["known"]])
    assert {file for file in project.rglob("*") if file.is_file()} - before == {project / evaluate.NEW_ITEMS}


def fake_stages(folder: Path, monkeypatch, last: str) -> None:
    """Stages that do nothing, but for the last."""
    monkeypatch.setattr(evaluate, "PROJECT", folder)
    (folder / "stages").mkdir()
    (folder / "stages" / "__init__.py").touch()
    for stage in evaluate.STAGES:
        (folder / "stages" / f"{stage}.py").write_text(last if stage == evaluate.STAGES[-1] else "")


def held_of(project: Path) -> HeldOut:
    return HeldOut.draw(Histories.load(evaluate.HISTORIES), read_parquet(evaluate.ITEMS), seed=0)


def test_stages_find_the_known_items_alone_the_same_settings_and_no_tracking(project, monkeypatch):
    said = "import json, os; json.dump(os.environ['GENREC_TRACKING'], open('said.json', 'w'))"
    fake_stages(project, monkeypatch, said)
    held, folder = held_of(project), project / "scratch"
    evaluate.train_without(held, folder)
    assert json.loads((folder / "said.json").read_text()) == "off"
    assert (folder / "params.yaml").read_bytes() == (project / "params.yaml").read_bytes()
    histories, items = Histories.load(folder / evaluate.HISTORIES), read_parquet(folder / evaluate.ITEMS)
    assert np.array_equal(histories.items, held.learned.items)
    assert items["item_key"].tolist() == held.known["item_key"].tolist()
    assert not {*items["item_key"]} & {*held.new["item_key"]}


def test_a_stage_that_fails_ends_it_in_a_line_and_writes_no_figures(project, monkeypatch, capsys):
    fake_stages(project, monkeypatch, "raise SystemExit('error: diverged')")
    with pytest.raises(SystemExit, match=r"error: train_tiger failed without the new items"):
        evaluate.main([])
    assert not evaluate.NEW_ITEMS.exists()
    assert os.listdir(evaluate.SCRATCH) == []
