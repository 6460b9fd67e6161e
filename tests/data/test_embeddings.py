"""A user's own item embeddings: read, brought into order, refused when they do not fit."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genrec.data.embeddings import check_embeddings, read_embeddings, standardize, with_padding_row
from genrec.errors import UserError

KEYS = ["a", "b", "c"]


def write_npy(folder, array):
    np.save(folder / "e.npy", array)
    return folder / "e.npy"


def write_parquet(folder, frame):
    frame.to_parquet(folder / "e.parquet", index=False)
    return folder / "e.parquet"


def test_an_array_is_taken_as_it_is_but_for_the_padding_row(tmp_path):
    file = write_npy(tmp_path, np.arange(8.0).reshape(4, 2) + 1)
    assert read_embeddings(file, KEYS).tolist() == [[0, 0], [3, 4], [5, 6], [7, 8]]


def test_rows_of_a_table_are_brought_into_the_order_of_item_ids(tmp_path):
    file = write_parquet(
        tmp_path, pd.DataFrame({"item_key": ["c", "a", "x", "b"], "u": [3, 1, 9, 2], "v": [6, 4, 9, 5]})
    )
    assert read_embeddings(file, KEYS).tolist() == [[0, 0], [1, 4], [2, 5], [3, 6]]


def test_a_folder_of_parts_is_one_table(tmp_path):
    """As Spark writes them; it was said that there is no file."""
    folder = tmp_path / "e.parquet"
    folder.mkdir()
    for name, keys in (("part-1", ["c", "a"]), ("part-0", ["b"])):
        pq.write_table(pa.table({"item_key": keys, "u": [KEYS.index(key) + 1.0 for key in keys]}), folder / name)
    (folder / "_SUCCESS").write_text("")
    assert read_embeddings(folder, KEYS).flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [pa.binary(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_keys_of_any_spelling_of_text_are_found(tmp_path, kind):
    keys = pa.array(["c", "a", "b"]).cast(pa.string() if pa.types.is_dictionary(kind) else kind)
    keys = keys.dictionary_encode() if pa.types.is_dictionary(kind) else keys
    pq.write_table(pa.table({"item_key": keys, "u": [3.0, 1, 2]}), tmp_path / "e.parquet")
    assert read_embeddings(tmp_path / "e.parquet", KEYS).flatten().tolist() == [0, 1, 2, 3]


def test_rows_with_names_of_their_own_are_told_by_their_key(tmp_path):
    frame = pd.DataFrame({"item_key": ["c", "a", "b"], "u": [3.0, 1, 2]}, index=[2, 0, 1])
    frame.to_parquet(tmp_path / "e.parquet")
    assert read_embeddings(tmp_path / "e.parquet", KEYS).flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 2)), "a row for padding and one for each of the 3 items, got shape (3, 2)"),
        (np.zeros(4), "got shape (4,)"),
        (np.array([[0.0], [1], [np.nan], [np.inf]]), "2 rows hold NaN or infinity, the first is row 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(array, message):
    with pytest.raises(UserError) as refusal:
        check_embeddings(array, 3, "e.npy")
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"id": ["a"], "u": [1.0]}), "must have a column item_key, got id, u"),
        (pd.DataFrame({"item_key": ["a", "a"], "u": [1.0, 2]}), "'a' has two"),
        (
            pd.DataFrame({"item_key": ["a", "c"], "u": [1.0, 2]}),
            "lacks 1 of the 3 items, such as item_key 'b', and has such as 'a'",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, frame, message):
    with pytest.raises(UserError) as refusal:
        read_embeddings(write_parquet(tmp_path, frame), KEYS)
    assert message in str(refusal.value)


def test_files_of_another_kind_are_refused(tmp_path):
    (tmp_path / "e.txt").write_text("1 2")
    (tmp_path / "f.npy").write_bytes(b"no array")
    for name, message in (
        ("e.txt", "must end in .npy or .parquet"),
        ("f.npy", "no sound file of numpy arrays"),
        ("g.npy", "no file of item embeddings .*g.npy'; give the path"),
    ):
        with pytest.raises(UserError, match=message):
            read_embeddings(tmp_path / name, KEYS)


def test_pickled_objects_are_not_loaded(tmp_path):
    np.save(tmp_path / "p.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="no sound file of numpy arrays"):
        read_embeddings(tmp_path / "p.npy", KEYS)


def test_standardized_items_have_mean_0_and_variance_1_and_padding_stays_0():
    embeddings = np.array([[0, 0], [1, 7], [3, 7]], np.float32)
    assert standardize(embeddings).tolist() == [[0, 0], [-1, 0], [1, 0]]


def test_the_padding_row_comes_before_the_items_and_keeps_their_type():
    padded = with_padding_row(np.array([[1, 2], [3, 4]], np.float32))
    assert padded.tolist() == [[0, 0], [1, 2], [3, 4]]
    assert padded.dtype == np.float32
