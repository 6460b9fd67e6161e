"""Results appear whole or not at all, and with the same bytes for the same content."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from genrec.errors import UserError
from genrec.storage.output import parquet_stream, read_metrics, read_parquet, replaced, write_metrics, write_parquet


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "data" / "raw"
    folder.mkdir(parents=True)
    (folder / "old").touch()
    with replaced(folder) as new:
        (new / "new").touch()
        assert [file.name for file in folder.iterdir()] == ["old"]
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert list(folder.parent.iterdir()) == [folder]


def test_an_error_leaves_the_old_folder_and_no_other(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "old").touch()

    def break_off():
        with replaced(folder) as new:
            (new / "half").touch()
            raise OSError("disk full")

    with pytest.raises(UserError, match="raw could not be written .disk full.; free some space"):
        break_off()
    assert [file.name for file in tmp_path.rglob("*")] == ["raw", "old"]


def test_what_a_killed_run_left_is_swept_away(tmp_path):
    (tmp_path / ".raw.partial").mkdir()
    (tmp_path / ".raw.partial" / "half").touch()
    with replaced(tmp_path / "raw"):
        pass
    assert [file.name for file in tmp_path.rglob("*")] == ["raw"]


def test_a_frame_comes_back_from_parquet(tmp_path):
    frame = pd.DataFrame({"item_id": pd.Series([1, 2], dtype="int32"), "title": pd.Series(["é", None], dtype="str")})
    write_parquet(frame, tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), frame)


def test_an_index_does_not_reach_the_file(tmp_path):
    frame = pd.DataFrame({"x": [1, 2]})
    write_parquet(frame, tmp_path / "a.parquet")
    write_parquet(frame.set_axis(["p", "q"]), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_bytes_do_not_depend_on_where_a_piece_ends(tmp_path):
    # more different values than a dictionary holds, so that the writer gives it up somewhere
    frame = pd.DataFrame({"time": np.random.default_rng(0).permutation(400_000)})
    write_parquet(frame, tmp_path / "whole.parquet")
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    with parquet_stream(table.schema, tmp_path / "pieces.parquet") as write:
        for start in range(0, len(table), 10_000):
            write(table.slice(start, 10_000))
    assert (tmp_path / "pieces.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_metrics_are_sorted_and_rounded(tmp_path):
    write_metrics({"n_users": 3, "density": 2 / 3}, tmp_path / "reports" / "metrics.json")
    assert (tmp_path / "reports" / "metrics.json").read_text() == '{\n  "density": 0.666667,\n  "n_users": 3\n}\n'


@pytest.mark.parametrize("content", [None, b"", b"{", b"PAR1"])
@pytest.mark.parametrize("read", [read_parquet, read_metrics])
def test_a_file_of_ours_that_is_gone_or_damaged_is_told_with_the_way_out(tmp_path, read, content):
    file = tmp_path / "a"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match="a not found; run `dvc repro`" if content is None else "; delete it and run"):
        read(file)


def test_a_file_that_is_missing_is_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError), replaced(tmp_path / "folder"):
        (tmp_path / "no").read_bytes()
