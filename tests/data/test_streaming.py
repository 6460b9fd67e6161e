"""Preparation past memory gives what preparation in memory gives, to the byte."""

import filecmp
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import genrec.data.formats
import genrec.data.streaming
import genrec.storage.output
from genrec.data.manifest import Layout, Manifest, RawFile
from genrec.data.preparation import TimeSplit, prepare
from genrec.data.readers import interaction_batches, read_interactions
from genrec.data.streaming import InteractionStore
from genrec.errors import UserError
from genrec.storage.output import write_parquet

COLUMNS = {"user_key": "u", "item_key": "i", "time": "t", "rating": "r"}
LAYOUT = Layout("delimited", COLUMNS, time_unit="unknown")
RULES = {"min_user_interactions": 3, "min_item_interactions": 2}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """So that a small file has several of each kind."""
    monkeypatch.setattr(genrec.data.formats, "BATCH_ROWS", 100)
    monkeypatch.setattr(genrec.data.formats, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(genrec.data.streaming, "BATCH_ROWS", 64)
    monkeypatch.setattr(genrec.storage.output, "ROW_GROUP", 150)


def log(seed=0, n=1000, users=lambda n: n, items=lambda n: n, high=40):
    random = np.random.default_rng(seed)
    drawn = {"u": random.integers(0, 60, n), "i": (random.random(n) ** 2 * 90).astype(int)}
    return pd.DataFrame(
        {
            "u": [str(users(value)) for value in drawn["u"]],
            "i": [str(items(value)) for value in drawn["i"]],
            "t": random.integers(1, high, n),
            "r": random.integers(1, 6, n),
        }
    )


def given(folder, frame, layout=LAYOUT):
    frame.to_csv(folder / "x.csv", index=False)
    return Manifest("interactions", RawFile("x.csv", "", layout))


def streamed(folder, manifest, file, repeats="keep", ties="file", split=None, **rules):
    with InteractionStore.opened(folder, 1, progress_bar=False) as store:
        store.load(interaction_batches(folder, manifest))
        store.filter(**{**RULES, **rules}, repeats=repeats)
        return store.write(ties, file, split)


def check_equal(folder, manifest, **options):
    ours = prepare(read_interactions(folder, manifest), **{**RULES, "repeats": "keep", "ties": "file", **options})
    write_parquet(ours.interactions, folder / "memory.parquet")
    theirs = streamed(folder, manifest, folder / "stream.parquet", **options)
    ours.histories.save(folder / "memory.npz")
    theirs.histories.save(folder / "stream.npz")
    for kind in ("parquet", "npz"):
        assert filecmp.cmp(folder / f"memory.{kind}", folder / f"stream.{kind}", shallow=False), kind
    assert theirs.statistics == ours.statistics
    for name in ("users", "items"):
        pd.testing.assert_frame_equal(getattr(theirs, name), getattr(ours, name))
        for prepared, file in ((ours, "a"), (theirs, "b")):
            write_parquet(getattr(prepared, name), folder / file)
        assert filecmp.cmp(folder / "a", folder / "b", shallow=False)
    return theirs


@pytest.mark.parametrize("split", [TimeSplit(0.6, 0.8, True), TimeSplit(0.7, "1970-01-01T00:00:35", False)])
def test_a_split_in_time_gives_the_same_bytes(tmp_path, split):
    found = check_equal(tmp_path, given(tmp_path, log()), split=split, repeats="drop")
    several = found.statistics["n_test_targets"] > found.statistics["n_test_users"]
    assert several == split.all_targets
    assert found.histories.cuts.all_targets == split.all_targets


def log_of_own_clocks():
    """Each user's times count from their first interaction."""
    frame = log()
    return frame.assign(t=frame["t"] - frame.groupby("u")["t"].transform("min"))


@pytest.mark.parametrize(
    ("frame", "columns"),
    [(log(), {"user_key": "u", "item_key": "i"}), (log_of_own_clocks(), COLUMNS)],
    ids=["without times", "clocks of their own"],
)
def test_a_split_in_time_is_refused_in_the_same_words(tmp_path, frame, columns):
    manifest, split = given(tmp_path, frame, replace(LAYOUT, columns=columns)), TimeSplit(0.6, 0.8, True)
    with pytest.raises(UserError) as here:
        check_equal(tmp_path, manifest, split=split)
    with pytest.raises(UserError) as there:
        streamed(tmp_path, manifest, tmp_path / "stream.parquet", split=split)
    assert str(here.value) == str(there.value)


@pytest.mark.parametrize("repeats", ["keep", "drop"])
@pytest.mark.parametrize("ties", ["file", "item", "hash"])
def test_every_rule_gives_the_same_bytes(tmp_path, repeats, ties):
    found = check_equal(tmp_path, given(tmp_path, log()), repeats=repeats, ties=ties)
    assert found.statistics["tied_pairs"] > 20
    assert (found.statistics["repeats_dropped"] > 20) == (repeats == "drop")


SPELLINGS = {
    "zeros": lambda n: f"{n:03}",
    "negative": lambda n: n - 9,
    "letters": lambda n: f"{'aZ'[n % 2]}{n}",
    "unicode": lambda n: f"ø{n}日",
    "long": lambda n: 10**19 + int(n),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_keys_of_every_spelling_have_the_same_order(tmp_path, spelling):
    spell = SPELLINGS[spelling]
    check_equal(tmp_path, given(tmp_path, log(users=spell, items=spell)))


def test_a_filter_that_takes_several_rounds_leaves_the_same(tmp_path):
    found = check_equal(tmp_path, given(tmp_path, log(n=500)), min_user_interactions=7, min_item_interactions=4)
    assert 0 < found.statistics["n_interactions"] < 400


@pytest.mark.parametrize("repeats", ["keep", "drop"])
@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000_000])
def test_times_of_an_unknown_unit_and_beyond_a_second_are_the_same(tmp_path, unit, repeats):
    frame = log()
    frame["t"] = 1_500_000_000 * unit + frame["t"] * max(unit // 10, 1)
    check_equal(tmp_path, given(tmp_path, frame), repeats=repeats)


def test_a_source_without_times_or_ratings_stays_in_its_order(tmp_path):
    layout = replace(LAYOUT, columns={"user_key": "u", "item_key": "i"})
    found = check_equal(tmp_path, given(tmp_path, log(), layout), ties="hash")
    assert found.statistics["tied_pairs"] == 0


def test_sequences_and_parts_are_the_same(tmp_path):
    frame = log()
    (tmp_path / "parts").mkdir()
    for number in range(3):
        frame[number::3].to_parquet(tmp_path / "parts" / f"{number}.parquet")
    layout = Layout("parquet", COLUMNS, time_unit="unknown")
    check_equal(tmp_path, Manifest("interactions", RawFile("parts", "", layout)), repeats="drop")
    lines = [" ".join([user, *items]) for user, items in frame.groupby("u")["i"].apply(list).items()]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    check_equal(tmp_path, Manifest("sequences", RawFile("lines.txt", "", Layout("sequences"))))


def test_nothing_left_is_told_in_the_same_words(tmp_path):
    manifest = given(tmp_path, log(n=100))
    with pytest.raises(UserError) as ours:
        prepare(
            read_interactions(tmp_path, manifest),
            min_user_interactions=90,
            min_item_interactions=9,
            repeats="keep",
            ties="file",
        )
    with pytest.raises(UserError) as theirs:
        streamed(tmp_path, manifest, tmp_path / "x", min_user_interactions=90, min_item_interactions=9)
    assert str(theirs.value) == str(ours.value)


def test_a_wrong_value_is_told_with_its_row_in_the_whole_file(tmp_path):
    frame = log(n=900)
    frame.loc[777, "r"] = np.nan
    manifest = given(tmp_path, frame)
    for read in (lambda: read_interactions(tmp_path, manifest), lambda: list(interaction_batches(tmp_path, manifest))):
        with pytest.raises(UserError, match=r"x\.csv, row 778: column 'r' must hold finite numbers"):
            read()


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no interactions; give another file"):
        streamed(tmp_path, given(tmp_path, log(n=0)), tmp_path / "x")


def test_the_database_is_gone_afterwards(tmp_path):
    manifest = given(tmp_path, log())
    streamed(tmp_path, manifest, tmp_path / "x.parquet")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.csv", "x.parquet"]
