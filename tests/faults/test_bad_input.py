"""Each wrong input ends its stage with one line and status 1, before any long work; earlier outputs stay."""

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults.bad_inputs import (
    CODES,
    FETCHES,
    FILES,
    GIVEN_EMBEDDINGS,
    GOOD,
    INTERACTIONS,
    ITEM_TABLES,
    ODD_INTERACTIONS,
    PARAMS,
    PARAMS_FILES,
    ROWS,
    VECTORS,
)
from faults.stages_in_processes import arguments_of, module_of, write_params
from genrec.data.formats import read_columns
from genrec.data.manifest import Layout, Manifest, RawFile
from genrec.data.readers import read_interactions
from genrec.data.sources import layout_of
from genrec.errors import UserError
from genrec.models.etegrec.module import ETEGRec
from genrec.models.parallel import Parallel
from genrec.models.rqvae import RqVae
from genrec.models.sasrec import SASRec
from genrec.models.tiger import Tiger
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.params.reading import read_params
from genrec.pipeline.command import run_command, run_stage
from genrec.ranking.ranker import Ranker
from genrec.retrieval.candidates import Candidates
from genrec.retrieval.transitions import Transitions
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import save_model

GIVEN = {"fetch_data": {"name": "interactions"}, "prepare_data": {"min_user_interactions": 3}}
SIZE = {"embedding_dim": 8, "num_heads": 2, "num_layers": 1, "attn_dim": 8}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which earlier runs have left outputs."""
    folder = tmp_path / "project"
    for kept in ("data/raw/kept", "data/prepared/kept", "reports/prepare_data/metrics.json"):
        (folder / kept).parent.mkdir(parents=True)
        (folder / kept).write_text("kept")
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("DVC_", "GENREC_"))]:
        monkeypatch.delenv(name)
    return folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages read: a catalogue of 9 items, and models of the right and of other sizes."""
    folder = tmp_path_factory.mktemp("whole") / "project"
    for name in ("data/raw", "data/prepared", "data/models"):
        (folder / name).mkdir(parents=True)
    models = folder / "data/models"
    Histories(np.arange(1, 10, dtype=np.int32), np.array([0, 5, 9]), 9).save(folder / "data/prepared/histories.npz")
    Transitions.fit(np.arange(1, 10, dtype=np.int32), np.array([0, 5, 9]), 9).save(folder / "data/transitions.npz")
    items = pd.DataFrame({"item_id": range(1, 10), "item_key": [f"k{n}" for n in range(1, 10)]})
    items.to_parquet(folder / "data/prepared/items.parquet")
    np.save(folder / "data/item_embeddings.npy", VECTORS)
    np.save(folder / "data/code_table.npy", CODES)
    np.save(folder / "data/digits.npy", CODES)
    (folder / "data/raw/good.csv").write_text(GOOD)
    columns = {"user_key": "user_id", "item_key": "item_id"}
    Manifest("interactions", RawFile("good.csv", "", Layout("delimited", columns))).save(folder / "data/raw")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"input_dim": 4, "hidden_dim": (8,), "latent_dim": 4, "num_levels": 2}
    save_model(RqVae(**sizes, num_embeddings=4), models / "rqvae.ckpt")
    save_model(RqVae(**sizes, num_embeddings=8), models / "other_rqvae.ckpt")
    for name, n_items in (("", 9), ("other_", 8)):
        save_model(SASRec(n_items, 8, 1, 2, 0.1, 6), models / f"{name}sasrec.ckpt")
        save_model(Tiger(13, **SIZE, code_length=3, n_items=n_items), models / f"{name}tiger.ckpt")
        save_model(ETEGRec(n_items, {**sizes, "num_embeddings": 4}, **SIZE), models / f"{name}etegrec.ckpt")
        save_model(HistoryTowers(n_items, embedding_dim=8), models / f"{name}two_tower.ckpt")
        save_model(Parallel(n_items, 3, 4, 8, 1, 2, max_history=6), models / f"{name}parallel.ckpt")
    (models / "rankers").mkdir()
    (folder / "data/candidates").mkdir()
    for name, n_items in (("two_tower", 9), ("other", 8)):
        save_model(Ranker("wide_deep", n_items, [n_items + 1], 7), models / f"rankers/{name}.ckpt")
    for name, item in (("two_tower_test", 9), ("other", 10)):
        found = Candidates(torch.tensor([[item], [1]]), torch.zeros(2, 1))
        found.save(folder / f"data/candidates/{name}.parquet", np.array([1, 2]))
    pd.DataFrame({"item_id": range(1, 10)}).to_parquet(folder / "data/prepared/interactions.parquet")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refusal(capsys: pytest.CaptureFixture[str], *stages: str) -> str:
    """The one line with which the last of these stages ends; the others must end well."""
    read_params.cache_clear()
    *before, last = (partial(importlib.import_module(module_of(stage)).main, *arguments_of(stage)) for stage in stages)
    for stage in before:
        run_command(stage)
    kept = contents(Path())
    with pytest.raises(SystemExit) as end:
        run_stage(last, None)
    assert contents(Path()) == kept, "an output was touched"
    line = str(end.value)
    assert capsys.readouterr().err == ""
    # what Python prints before it ends with status 1
    assert line.startswith("error: ")
    assert line.count("\n") == 0
    assert line.isprintable()
    assert len(line) < 600
    assert not Path("stolen").exists()
    assert "hunter2" not in line
    return line


def assert_says(line: str, words: tuple[str, ...]) -> None:
    for word in words:
        assert word in line
    # of a value in params.yaml the rule itself is the way out
    assert "; " in line or "params.yaml: " in line


@pytest.fixture(autouse=True)
def _no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stage"])


@pytest.mark.fault("bad input: interactions")
@pytest.mark.parametrize(("name", "content", "words"), INTERACTIONS, ids=[case[0] for case in INTERACTIONS])
def test_bad_interactions(project, capsys, name, content, words):
    (project / name).write_bytes(content)
    kinds = {".json": "amazon-2023", ".jsonl": "amazon-2023", ".txt": "sequences"}
    dataset = kinds.get(Path(name).suffix, "interactions")
    write_params(project, GIVEN, {"fetch_data": {"name": dataset, "path": name}})
    assert_says(refusal(capsys, "fetch_data", "prepare_data"), words)


@pytest.mark.fault("odd interactions, which are read as they are")
@pytest.mark.parametrize(("name", "content", "pairs"), ODD_INTERACTIONS, ids=[case[0] for case in ODD_INTERACTIONS])
def test_what_is_odd_but_not_wrong_is_read_as_it_is(tmp_path, name, content, pairs):
    (tmp_path / name).write_bytes(content)
    dataset = {".jsonl": "amazon-2023", ".txt": "sequences"}.get(Path(name).suffix, "interactions")
    layout = layout_of(dataset, "interactions", name)
    if not layout.columns and dataset == "interactions":
        layout = replace(layout, columns={"user_key": "user_id", "item_key": "item_id", "time": "timestamp"})
    read = read_interactions(tmp_path, Manifest(dataset, RawFile(name, "", layout)))
    assert list(zip(read["user_key"], read["item_key"], strict=True)) == pairs


@pytest.mark.fault("odd interactions, which are read as they are")
def test_a_user_with_one_item_duplicate_rows_and_an_item_table_with_gaps_change_nothing_else(project):
    prepared = []
    for rows, repeats in (("", "keep"), ("lonely,i1,1,4\n" + ROWS, "drop")):
        (project / "good.csv").write_text(GOOD + rows)
        (project / "items.csv").write_text("item_id,title\ni1,One\nunknown,Two\n")
        write_params(
            project,
            GIVEN,
            {"fetch_data": {"path": "good.csv", "items_path": "items.csv"}, "prepare_data": {"repeats": repeats}},
        )
        read_params.cache_clear()
        for stage in ("fetch_data", "prepare_data"):
            importlib.import_module(module_of(stage)).main()
        titles = pd.read_parquet(project / "data/prepared/items.parquet")["title"]
        assert titles.notna().tolist() == [False, True, False, False, False]
        prepared.append(Histories.load(project / "data/prepared/histories.npz"))
    assert (prepared[0].items == prepared[1].items).all()
    assert (prepared[0].offsets == prepared[1].offsets).all()


@pytest.mark.fault("bad input: item tables")
@pytest.mark.parametrize(("name", "content", "words"), ITEM_TABLES)
def test_bad_item_tables(project, capsys, name, content, words):
    (project / "good.csv").write_text(GOOD)
    (project / name).write_bytes(content)
    write_params(project, GIVEN, {"fetch_data": {"path": "good.csv", "items_path": name}})
    is_refused_at_once = name == "t.txt"
    stages = ["fetch_data"] if is_refused_at_once else ["fetch_data", "prepare_data"]
    assert_says(refusal(capsys, *stages), words)


@pytest.mark.fault("bad input: params")
@pytest.mark.parametrize(("key", "value", "words"), PARAMS, ids=[f"{case[0]}={case[1]!r}" for case in PARAMS])
def test_bad_params(project, capsys, key, value, words):
    change: Any = value
    for part in reversed(key.split(".")):
        change = {part: change}
    write_params(project, change)
    assert_says(refusal(capsys, "fetch_data"), words)


@pytest.mark.fault("bad input: params")
@pytest.mark.parametrize(("content", "words"), [case[1:] for case in PARAMS_FILES], ids=[c[0] for c in PARAMS_FILES])
def test_bad_params_files(project, capsys, content, words):
    (project / "params.yaml").write_bytes(content)
    assert_says(refusal(capsys, "fetch_data"), words)


@pytest.mark.fault("bad input: params")
@pytest.mark.parametrize("make", [lambda file: None, lambda file: file.mkdir()], ids=["none", "a folder"])
def test_no_params_file(project, capsys, make):
    make(project / "params.yaml")
    assert_says(refusal(capsys, "fetch_data"), ("params.yaml not found in ", "run from the project's root folder"))


@pytest.mark.fault("bad input: sources")
@pytest.mark.parametrize(("config", "words"), [case[1:] for case in FETCHES], ids=[case[0] for case in FETCHES])
def test_bad_sources(project, capsys, config, words):
    for name in ("good.csv", "good.xlsx", "source.json"):
        (project / name).write_text(GOOD)
    write_params(project, GIVEN, {"fetch_data": config})
    stages = ["fetch_data", "prepare_data"] if "no column" in words[0] else ["fetch_data"]
    assert_says(refusal(capsys, *stages), words)


@pytest.mark.fault("bad input: files that do not fit, are damaged or of other parameters")
@pytest.mark.parametrize(
    ("stage", "name", "content", "words"), FILES, ids=[f"{case[0]} {case[1]} {case[3][0][:24]}" for case in FILES]
)
def test_files_that_do_not_fit(whole, tmp_path, monkeypatch, capsys, stage, name, content, words):
    folder = tmp_path / "project"
    shutil.copytree(whole, folder)
    monkeypatch.chdir(folder)
    write_params(folder, {"model": {"code_num": 4}})
    file = folder / name
    if content is None:
        file.unlink()
    elif isinstance(content, str):
        shutil.copy(folder / content, file)
    else:
        file.write_bytes(content if isinstance(content, bytes) else content(file.read_bytes()))
    assert_says(refusal(capsys, stage), words)


@pytest.mark.fault("bad input: embeddings of a user")
@pytest.mark.parametrize(("name", "content", "words"), GIVEN_EMBEDDINGS)
def test_bad_embeddings_of_a_user(whole, tmp_path, monkeypatch, capsys, name, content, words):
    folder = tmp_path / "project"
    shutil.copytree(whole, folder)
    monkeypatch.chdir(folder)
    write_params(folder, {"extract_embeddings": {"source": "file", "path": name}})
    if content is not None:
        (folder / name).write_bytes(content)
    assert_says(refusal(capsys, "extract_embeddings"), words)


def test_there_are_more_than_a_hundred_bad_inputs():
    corpus = [INTERACTIONS, ITEM_TABLES, PARAMS, PARAMS_FILES, FETCHES, FILES, GIVEN_EMBEDDINGS]
    assert sum(map(len, corpus)) >= 200


# Whatever the bytes, a reader gives checked columns or refuses in one line.
LAYOUTS = {
    "csv": Layout("delimited", {"user_key": "u", "item_key": "i", "time": "t"}),
    "tsv": Layout("delimited", {"user_key": "u", "item_key": "i", "time": "t"}, "\t", ("u", "i", "t")),
    "jsonl": Layout("json_lines", {"user_key": "u", "item_key": "i", "time": "t"}),
    "txt": Layout("sequences"),
    "parquet": Layout("parquet", {"user_key": "u", "item_key": "i", "time": "t"}),
    "csv.gz": Layout("delimited", {"user_key": "u", "item_key": "i", "time": "t"}),
}
VALUES = st.one_of(
    st.text(max_size=8), st.integers().map(str), st.floats().map(str), st.sampled_from(["", "NULL", "nan", '"', "\t"])
)
AS_JSON = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just({"a": [1]}))
SOUP = st.one_of(
    st.binary(max_size=200),
    st.lists(st.lists(VALUES, max_size=4).map(",".join), max_size=6).map(lambda rows: "\n".join(["u,i,t", *rows])),
    st.lists(st.lists(VALUES, max_size=4).map("\t".join), max_size=6).map("\r\n".join),
    st.lists(st.fixed_dictionaries({"u": AS_JSON, "i": AS_JSON, "t": AS_JSON}).map(json.dumps), max_size=4).map(
        "\n".join
    ),
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def taken_or_refused(read: Callable[[], Any]) -> tuple[Any, str]:
    """What is read, or the line that refuses it; any other exception is a defect."""
    try:
        return read(), ""
    except UserError as refused:
        line = str(refused)
    assert line.isprintable()
    return None, line


@pytest.mark.fault("random bytes for a reader (150 each)")
@pytest.mark.parametrize("kind", LAYOUTS)
@QUICK
@given(content=SOUP)
def test_a_reader_gives_checked_columns_or_one_line(tmp_path, kind, content):
    file = tmp_path / f"a.{kind}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    read, said = taken_or_refused(
        lambda: read_interactions(tmp_path, Manifest("any", RawFile(file.name, "", LAYOUTS[kind])))
    )
    if read is None:
        assert "; " in said
        return
    assert len(read) > 0
    assert all(isinstance(key, str) and key for name in ("user_key", "item_key") for key in read[name])
    if "time" in read:
        assert read["time"].dtype == np.int64
        assert (read["time"] >= 0).all()


KEY = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\"'\ufeff"), min_size=1, max_size=9)


@pytest.mark.fault("random keys through a file and back (150)")
@QUICK
@given(rows=st.lists(st.tuples(KEY, KEY, st.integers(0, 2**50)), min_size=1, max_size=8))
def test_keys_and_times_come_back_as_they_were(tmp_path, rows):
    # control characters, emoji, commas, spaces: a key is text and nothing else
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"u": u, "i": i, "t": t}) + "\n" for u, i, t in rows), encoding="utf-8")
    read = read_columns(file, LAYOUTS["jsonl"])
    assert list(zip(read["user_key"], read["item_key"], read["time"].astype(int), strict=True)) == rows


@pytest.mark.fault("random values in params.yaml (150)")
@QUICK
@given(
    name=st.sampled_from([("seed",), ("model", "code_num"), ("train_sasrec", "learning_rate"), ("evaluate", "ks")]),
    value=st.recursive(AS_JSON, lambda inner: st.lists(inner, max_size=3), max_leaves=4),
)
def test_params_are_taken_or_refused_in_one_line(tmp_path, name, value):
    change: Any = value
    for part in reversed(name):
        change = {part: change}
    write_params(tmp_path, change)
    read_params.cache_clear()
    taken_or_refused(lambda: read_params(tmp_path / "params.yaml"))
