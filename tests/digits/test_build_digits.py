"""The stage that makes digits: of item embeddings and of words, none of words where they are too few; its gates."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from faults.stages_in_processes import write_params

from genrec.errors import UserError
from stages import build_digits

WORDS = ("red", "blue", "green", "black", "foam", "balm", "lacquer", "brush")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Twenty items with vectors and titles; digits of four codes."""
    monkeypatch.chdir(tmp_path)
    Path("data/prepared").mkdir(parents=True)
    random = np.random.default_rng(0)
    np.save("data/item_embeddings.npy", random.standard_normal((21, 8)).astype(np.float32))
    titles = [f"{WORDS[n % 4]} {WORDS[4 + n // 5]}" for n in range(20)]
    items = pd.DataFrame({"item_id": range(1, 21), "item_key": map(str, range(20)), "title": titles})
    items.to_parquet("data/prepared/items.parquet")
    return tmp_path


def built(project, words=None, **changes):
    digits = {"embedding_digits": 4, "word_digits": 2, "code_num": 4, **changes}
    write_params(project, {"build_digits": digits, "extract_embeddings": {"words": words or {"columns": [], "dim": 4}}})
    build_digits.main()
    figures = json.loads(Path("reports/build_digits/metrics.json").read_text())
    return np.load("data/digits.npy", allow_pickle=False), figures


def test_some_digits_are_of_vectors_and_some_of_words(project):
    digits, figures = built(project)
    assert (digits.shape, digits.dtype) == ((21, 6), np.int32)
    assert (digits[0] == -1).all()
    assert digits[1:].min() == 0
    assert digits[1:].max() == 3
    of_vectors, of_words = digits[:, :4], digits[:, 4:]
    titles = pd.read_parquet("data/prepared/items.parquet")["title"].tolist()
    alike = [(a, b) for a in range(20) for b in range(a) if titles[a] == titles[b]]
    assert alike
    assert all((of_words[a + 1] == of_words[b + 1]).all() for a, b in alike)
    assert len(np.unique(of_vectors[1:], axis=0)) > 10
    assert figures["num_digits"] == 6
    assert figures["items_without_words"] == 0
    assert figures["collision_rate"] == 1 - len(np.unique(digits[1:], axis=0)) / 20


def test_where_the_item_table_has_ids_alone_all_digits_are_of_vectors_and_it_is_said(project, capsys):
    pd.read_parquet("data/prepared/items.parquet").drop(columns="title").to_parquet("data/prepared/items.parquet")
    digits, figures = built(project)
    assert digits.shape == (21, 4)
    assert "items_without_words" not in figures
    assert (
        "has no 4 dimensions of words (extract_embeddings.words.dim), so that no digits are made"
        in capsys.readouterr().err
    )


def test_a_column_that_is_named_must_be_there(project):
    with pytest.raises(UserError, match="the item table has no column 'brand'"):
        built(project, words={"columns": ["brand"], "dim": 4})


def test_words_alone_make_digits_too(project):
    digits, _ = built(project, embedding_digits=0)
    assert digits.shape == (21, 2)


def test_no_digits_at_all_are_refused(project):
    with pytest.raises(UserError, match="word_digits: must be at least 1 if build_digits.embedding_digits is 0"):
        built(project, embedding_digits=0, word_digits=0)


def test_digits_outside_the_gates_end_the_stage(project):
    np.save("data/item_embeddings.npy", np.ones((21, 8), np.float32))
    with pytest.raises(
        UserError, match=r"gates \(build_digits\.gates\): collision_rate 0.950 is above 0.5. Change build"
    ):
        built(project, word_digits=0, gates={"max_collision_rate": 0.5})


def test_the_same_bytes_twice(project):
    built(project)
    first = Path("data/digits.npy").read_bytes()
    built_again(project)
    assert Path("data/digits.npy").read_bytes() == first


def built_again(project):
    Path("data/digits.npy").unlink()
    build_digits.main()
