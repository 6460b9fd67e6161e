"""fetch_data and prepare_data, one after the other, as DVC runs them, and the embeddings that need no training."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from genrec.data.words import embed_words
from genrec.errors import UserError
from genrec.models.sasrec import SASRec
from genrec.params.reading import read_params
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import save_model
from stages import extract_embeddings, fetch_data, prepare_data

PROJECT = Path(__file__).parents[2]
BOTH = "from stages import fetch_data, prepare_data; fetch_data.main(); prepare_data.main()"


def configure(folder, embeddings=None, **changes):
    """Put a params.yaml into a folder, changed in fetch_data, prepare_data or (`embeddings`) extract_embeddings."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["extract_embeddings"] |= embeddings or {}
    for key, value in changes.items():
        section = next(name for name in ("fetch_data", "prepare_data") if key in params[name])
        params[section][key] = value
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project folder to work in."""
    monkeypatch.chdir(tmp_path)
    read_params.cache_clear()
    yield tmp_path
    read_params.cache_clear()


@pytest.fixture
def amazon(tmp_path):
    """12 users with 6 of 10 items each, all on one day, in Amazon's two files of 2014."""
    reviews = [
        {"reviewerID": f"U{user}", "asin": f"B{(user + step) % 10}", "overall": 5.0, "unixReviewTime": 86_400}
        for user in range(12)
        for step in range(6)
    ]
    items = [{"asin": f"B{item}", "title": f"Thing {item}", "categories": [["Things"]]} for item in range(9)]
    (tmp_path / "reviews.json.gz").write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in reviews).encode()))
    (tmp_path / "meta.json.gz").write_bytes(gzip.compress("".join(f"{item!r}\n" for item in items).encode()))
    return {
        "name": "amazon-2014",
        "path": str(tmp_path / "reviews.json.gz"),
        "items_path": str(tmp_path / "meta.json.gz"),
        "ties": "hash",
    }


def test_synthetic_data_go_through_both_stages(project):
    configure(project, name="synthetic")
    fetch_data.main()
    prepare_data.main()
    metrics = json.loads(Path("reports/prepare_data/metrics.json").read_text())
    histories = Histories.load(Path("data/prepared/histories.npz"))
    interactions = pd.read_parquet("data/prepared/interactions.parquet")
    users, items = (pd.read_parquet(f"data/prepared/{name}.parquet") for name in ("users", "items"))
    assert (metrics["n_users"], metrics["n_items"]) == (len(users), len(items)) == (300, 120)
    assert metrics["items_without_row"] == 0
    assert interactions["item_id"].tolist() == histories.items.tolist()
    assert interactions["user_id"].tolist() == np.repeat(users["user_id"], histories.lengths).tolist()
    assert items["item_id"].tolist() == list(range(1, 121))
    assert list(items) == ["item_id", "item_key", "cluster"]


def test_of_some_users_the_last_two_are_held_out(project):
    configure(project, name="synthetic", held_out_users=20)
    fetch_data.main()
    prepare_data.main()
    histories = Histories.load(Path("data/prepared/histories.npz"))
    held_out = histories.users_of(histories.examples("test"))
    assert held_out.tolist() == list(range(1, 300, 15))
    assert histories.train_counts().sum() == len(histories.items) - 2 * 20
    assert json.loads(Path("reports/prepare_data/metrics.json").read_text())["held_out_users"] == 20


REPORTED = ["c", "a", "d", "b"], ["1593878903.9", "1593878903.1", "1593878903.95", "1593878903.5"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "inter", "parquet", "csv.gz"])
def test_a_history_is_in_order_within_a_second_in_every_format(project, ending):
    """It came out as c, a, d, b, all at one time."""
    items, times = REPORTED
    rows = [(f"u{user}", item, time) for user in (1, 2, 3) for item, time in zip(items, times, strict=True)]
    file = Path(f"rows.{ending}")
    if ending == "parquet":
        frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
        frame.astype({"timestamp": float}).to_parquet(file)
    else:
        header = ("user_id:token", "item_id:token", "timestamp:float") if ending == "inter" else None
        lines = [header or ("user_id", "item_id", "timestamp"), *rows]
        content = "".join((("," if "csv" in ending else "\t").join(line)) + "\n" for line in lines).encode()
        file.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    columns = {"user": "user_id", "item": "item_id", "time": "timestamp", "rating": ""}
    smallest = {"min_user_interactions": 3, "min_item_interactions": 1}
    configure(project, name="interactions", path=str(file), columns=columns, **smallest)
    fetch_data.main()
    prepare_data.main()
    keys = pd.read_parquet("data/prepared/items.parquet")["item_key"]
    histories = Histories.load(Path("data/prepared/histories.npz"))
    assert keys[histories.items - 1].tolist() == ["a", "b", "c", "d"] * 3
    assert pd.read_parquet("data/prepared/interactions.parquet")["time"].tolist() == [1593878903] * 12
    assert json.loads(Path("reports/prepare_data/metrics.json").read_text())["tied_pairs"] == 0


def test_amazon_data_go_through_both_stages(project, amazon):
    configure(project, **amazon)
    fetch_data.main()
    prepare_data.main()
    items = pd.read_parquet("data/prepared/items.parquet")
    assert items["title"].tolist()[:9] == [f"Thing {item}" for item in range(9)]
    assert items["title"].isna().tolist() == [False] * 9 + [True]
    assert items["categories"][0] == '[["Things"]]'
    metrics = json.loads(Path("reports/prepare_data/metrics.json").read_text())
    assert (metrics["items_without_row"], metrics["tied_pairs_share"]) == (1, 1.0)


def given_items(amazon, *lines):
    file = Path(amazon["items_path"]).with_name("items.json")
    file.write_text("".join(f"{line}\n" for line in lines))
    return {**amazon, "items_path": str(file)}


@pytest.mark.parametrize(
    ("lines", "theirs"),
    [(['{"asin": "0", "title": "A"}', '{"asin": "1"}'], "the table has such as '0'"), ([], "the table has no row")],
)
def test_an_item_table_that_matches_nothing_is_refused_with_a_key_of_each_side(project, amazon, lines, theirs):
    """It was taken, and all that was learned from it was "Unknown"."""
    configure(project, **given_items(amazon, *lines))
    fetch_data.main()
    message = rf"items\.json: none of the 10 items has a row there: the interactions have such as 'B0', {theirs}; spell"
    with pytest.raises(UserError, match=message):
        prepare_data.main()
    assert not Path("data/prepared").exists()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_ids_that_one_file_writes_as_fractions_match_nothing(project, ending):
    rows = [(f"u{user}", float(item), step) for user in range(5) for step, item in enumerate(range(5))]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv("rows.csv", index=False)
    items = pd.DataFrame({"item_id": range(5), "title": list("abcde")})
    items.to_csv("items.csv", index=False) if ending == "csv" else items.to_parquet("items.parquet")
    columns = {"user": "user_id", "item": "item_id", "time": "timestamp", "rating": ""}
    configure(project, name="interactions", path="rows.csv", items_path=f"items.{ending}", columns=columns)
    fetch_data.main()
    with pytest.raises(
        UserError, match=r"none of the 5 items .* such as '0\.0', the table has such as '0'; spell them"
    ):
        prepare_data.main()


@pytest.mark.parametrize(("n_rows", "warns"), [(9, False), (8, True)])
def test_an_item_table_with_large_gaps_is_warned_of(project, amazon, capsys, n_rows, warns):
    configure(project, **given_items(amazon, *(json.dumps({"asin": f"B{n}", "title": "A"}) for n in range(n_rows))))
    fetch_data.main()
    prepare_data.main()
    said = capsys.readouterr().err
    warning = "items.json has no row for 2 of the 10 items, such as 'B8'; what it tells of the others is unknown"
    assert (warning in said, bool(said)) == (warns, warns)


def test_the_seed_of_the_training_does_not_fetch_again(project):
    """fetch_data depended on `seed`: a sweep over seeds downloaded for each, and failed without a network."""
    drawn = []
    for seed in (1, 2):
        configure(project, name="synthetic")
        params = yaml.safe_load(Path("params.yaml").read_text())
        Path("params.yaml").write_text(yaml.safe_dump({**params, "seed": seed}))
        read_params.cache_clear()
        fetch_data.main()
        drawn.append({file.name: file.read_bytes() for file in Path("data/raw").iterdir()})
    assert drawn[0] == drawn[1]
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert stages["fetch_data"]["params"] == ["fetch_data"]


def test_two_processes_write_the_same_bytes(project, amazon):
    outputs = []
    for salt in ("1", "2"):
        folder = project / salt
        configure(folder, **amazon)
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        subprocess.run([sys.executable, "-c", BOTH], cwd=folder, env=environment, check=True)
        outputs.append(
            {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*") if file.is_file()}
        )
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 1 + 3 + 4 + 1


def text_of(*columns):
    return {"model": "a-model", "columns": list(columns), "max_length": 64, "batch_size": 8}


def extracted(folder, amazon, **changes):
    """The item embeddings of the Amazon data, all three stages run."""
    configure(folder, {"standardize": False, **changes}, **amazon)
    fetch_data.main()
    prepare_data.main()
    extract_embeddings.main()
    return np.load("data/item_embeddings.npy", allow_pickle=False)


def test_titles_become_item_embeddings(project, amazon, fake_encoder):
    embeddings = extracted(project, amazon, source="text", text=text_of("title", "categories"))
    assert fake_encoder.made == [("a-model", "cpu")]
    (texts,) = fake_encoder.encoded
    assert texts[:2] == ["title: Thing 0; categories: Things", "title: Thing 1; categories: Things"]
    assert texts[9] == "title: Unknown; categories: Unknown"
    assert (embeddings.shape, embeddings.dtype) == ((11, 768), np.float32)
    assert not embeddings[0].any()
    np.testing.assert_allclose(np.linalg.norm(embeddings[1:], axis=1), 1, atol=1e-6)


def words_of(*columns, dim=3):
    return {"columns": list(columns), "dim": dim}


def test_words_become_item_embeddings(project, amazon):
    titles = ["red nail lacquer", "blue nail lacquer", "red lip balm", "blue lip balm", "foam"]
    lines = [json.dumps({"asin": f"B{n}", "title": title}) for n, title in enumerate(titles)]
    embeddings = extracted(project, given_items(amazon, *lines), source="words", words=words_of("title"))
    items = pd.read_parquet("data/prepared/items.parquet")
    assert np.array_equal(embeddings, embed_words(items, ["title"], 3, seed=0).vectors)
    assert (embeddings[1:5] != 0).any(axis=1).all()


def test_words_stand_beside_sasrecs_vectors_and_neither_is_louder(project, amazon):
    Path("data/models").mkdir(parents=True)
    torch.manual_seed(0)
    save_model(SASRec(10, 8, 1, 2, 0.1, 6), Path("data/models/sasrec.ckpt"))
    lines = [json.dumps({"asin": f"B{n}", "title": f"{('red', 'blue')[n % 2]} {('foam', 'balm')[n // 5]}"})
             for n in range(10)]  # fmt: skip
    embeddings = extracted(project, given_items(amazon, *lines), source="sasrec+words", words=words_of("title"))
    assert embeddings.shape == (11, 8 + 3)
    assert not embeddings[0].any()
    for part in np.split(embeddings, [8], axis=1):
        assert np.square(part[1:]).sum(axis=1).mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (words_of("movie_title"), "has no column 'movie_title'; it has item_id, item_key, title, .*choose columns"),
        (words_of("title", dim=9), "make at most 1 dimensions .* got dim=9; lower it"),
    ],
)
def test_words_that_the_item_table_lacks_are_told(project, amazon, words, message):
    with pytest.raises(UserError, match=message):
        extracted(project, amazon, source="words", words=words)


def test_data_without_an_item_table_have_no_words(project):
    rows = [f"u{user} " + " ".join(f"i{(user + step) % 10}" for step in range(6)) for user in range(12)]
    Path("rows.txt").write_text("\n".join(rows) + "\n")
    with pytest.raises(UserError, match=r"need an item table, .* give fetch_data\.items_path"):
        extracted(project, {"name": "sequences", "path": "rows.txt"}, source="words")


def test_a_column_that_the_item_table_lacks_is_named(project, amazon, fake_encoder):
    with pytest.raises(UserError, match="need a column 'movie_title', but the item table has item_id, item_key, title"):
        extracted(project, amazon, source="text", text=text_of("movie_title"))


def test_a_file_by_item_keys_becomes_item_embeddings(project, amazon):
    table = pd.DataFrame({"item_key": [f"B{item}" for item in range(9, -1, -1)], "u": np.arange(9.0, -1, -1)})
    table.to_parquet("mine.parquet", index=False)
    assert extracted(project, amazon, source="file", path="mine.parquet").tolist() == [[0], *([n] for n in range(10))]


def test_a_tilde_is_the_home(project, amazon, fake_encoder, monkeypatch):
    """`~/mine.parquet` was looked for in a folder named ~, and so was the model of the texts."""
    monkeypatch.setenv("HOME", str(project))
    pd.DataFrame({"item_key": [f"B{item}" for item in range(10)], "u": np.arange(10.0)}).to_parquet("mine.parquet")
    assert extracted(project, amazon, source="file", path="~/mine.parquet")[10].tolist() == [9]
    read_params.cache_clear()
    extracted(project, amazon, source="text", text={**text_of("title"), "model": "~/a-model"})
    assert fake_encoder.made == [(f"{project}/a-model", "cpu")]


def test_a_mistake_ends_the_stage_with_one_line_and_no_output(project):
    configure(project, name="interactions", path="no.csv")
    command = [sys.executable, "-m", "stages.fetch_data"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: fetch_data.path: no.csv not found; give a file")
    assert answer.stderr.count("\n") == 1
    assert not Path("data/raw").exists()
