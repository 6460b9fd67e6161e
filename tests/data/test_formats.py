"""The file formats: what each reads, and what each refuses in one line."""

import gzip
import json
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from genrec.data.formats import read_columns, read_table
from genrec.data.manifest import Layout, Manifest, RawFile
from genrec.data.readers import read_interactions
from genrec.errors import UserError

COLUMNS = {"user_key": "u", "item_key": "i"}
CSV = Layout("delimited", COLUMNS)
TSV = Layout("delimited", COLUMNS, "\t")
JSON = Layout("json_lines", COLUMNS)
PARQUET = Layout("parquet", COLUMNS)
SEQUENCES = Layout("sequences")


@pytest.fixture
def read(tmp_path):
    """Write bytes under a name and read them."""

    def read_bytes(content, layout, name="x"):
        (tmp_path / name).write_bytes(content)
        return read_columns(tmp_path / name, layout).to_dict("list")

    return read_bytes


def keys(*pairs):
    return {"user_key": [user for user, _ in pairs], "item_key": [item for _, item in pairs]}


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        (b"u,i\n7,b\n007,c\n", CSV),
        (b"u,i\r\n7,b\r\n007,c", CSV),
        (b"\xef\xbb\xbfu,i\n7,b\n007,c\n", CSV),
        (b'"u",x,i\n"7",9,b\n007,,"c"\n', CSV),
        (b"i\tu\nb\t7\nc\t007\n", TSV),
        (b"7|b\n007|c\n", Layout("delimited", COLUMNS, "|", ("u", "i"))),
        (b"u:token,i:token,x:y:float\n7,b,1\n007,c,1\n", Layout("delimited", COLUMNS, typed_header=True)),
        (b'{"u": "7", "i": "b"}\n{"i": "c", "u": "007", "x": [1]}\n', JSON),
        (b"{'u': '7', 'i': 'b', 'x': None}\n{'u': '007', 'i': u'c'}\n", JSON),
        (b"7 b\n\n007\tc\n", SEQUENCES),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_every_spelling_of_two_interactions_reads_alike(read, content, layout, compressed):
    name = "x.gz" if compressed else "x"
    assert read(gzip.compress(content) if compressed else content, layout, name) == keys(("7", "b"), ("007", "c"))


def test_a_sequence_becomes_a_row_for_each_item(read):
    assert read(b"b 3 1 3\na 2\n", SEQUENCES) == keys(("b", "3"), ("b", "1"), ("b", "3"), ("a", "2"))


def test_words_that_mean_nothing_elsewhere_are_keys(read):
    content = "u,i\nNA,null\nNone,\nø,日本\n".encode()
    assert read(content, CSV) == keys(("NA", "null"), ("None", ""), ("ø", "日本"))


def test_a_quote_within_a_tab_separated_field_is_a_character(read):
    assert read(b'u\ti\n7"\t"b\n', TSV) == keys(('7"', '"b'))


def test_a_comma_separated_field_may_hold_lines(read):
    assert read(b'u,i\n"a\nb","c,""d"""\n', CSV) == keys(("a\nb", 'c,"d"'))


def test_numbers_in_json_become_text(read):
    layout = Layout("json_lines", {**COLUMNS, "time": "t", "rating": "r"})
    assert read(b'{"u": 7, "i": 123456789012, "t": 5, "r": 4.5}\n', layout) == {
        **keys(("7", "123456789012")),
        "time": ["5"],
        "rating": ["4.5"],
    }


def test_what_a_json_line_lacks_is_missing(read):
    frame = read(b'{"u": "a"}\n{"u": "b", "i": null}\n', JSON)
    assert pd.isna(frame["item_key"]).all()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([7, 8]),
        pa.array([7, 8], pa.uint8()),
        pa.array(["7", "8"]),
        pa.array(["7", "8"], pa.large_string()),
        pa.array(["7", "8"]).dictionary_encode(),
        pa.array([b"7", b"8"]),
        pa.array([b"7", b"8"], pa.large_binary()),
        pa.array([b"7", b"8"], pa.binary(1)),
        pa.array([b"7", b"8"]).dictionary_encode(),
        pa.array(["7", "8"], pa.string_view()),
        pa.array([b"7", b"8"], pa.binary_view()),
        pa.array([Decimal(7), Decimal(8)], pa.decimal128(20, 0)),
    ],
)
def test_parquet_keys_of_any_kind_become_text(tmp_path, column):
    pa.parquet.write_table(pa.table({"u": column, "i": column, "x": [0, 0]}), tmp_path / "x.parquet")
    assert read_columns(tmp_path / "x.parquet", PARQUET).to_dict("list") == keys(("7", "7"), ("8", "8"))


def test_a_large_decimal_key_is_spelled_out(tmp_path):
    column = pa.array([Decimal("1E+20"), Decimal(8)], pa.decimal128(38, 0))
    pa.parquet.write_table(pa.table({"u": column, "i": column}), tmp_path / "x.parquet")
    assert read_columns(tmp_path / "x.parquet", PARQUET)["user_key"].tolist() == ["1" + 20 * "0", "8"]


BEYOND = Layout("parquet", {**COLUMNS, "time": "t", "rating": "r"}, time_unit="unknown")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([60_900, 86_400_000], pa.timestamp("ms")), [60_900_000_000, 86_400 * 10**9]),
        (pa.array([60_900_000, 5], pa.timestamp("us", "Asia/Tokyo")), [60_900_000_000, 5_000]),
        (pa.array([1593878903_123456789, 1593878903_123456788], pa.timestamp("ns")),
         [1593878903_123456789, 1593878903_123456788]),
        (pa.array([1, 2], pa.date32()), [86_400 * 10**9, 2 * 86_400 * 10**9]),
        (pa.array([86_400_000, 0], pa.date64()), [86_400 * 10**9, 0]),
        (pa.array([Decimal("1593878903.9"), Decimal("1593878903.1")]), [1593878903_900000000, 1593878903_100000000]),
        (pa.array([1593878903.5, 1593878903.25]), [1593878903_500000000, 1593878903_250000000]),
        (pa.array([b"1593878903.9", b"1593878903.1"]), [1593878903_900000000, 1593878903_100000000]),
        (pa.array(["1593878903.9", "1593878903.1"]).dictionary_encode(), [1593878903_900000000, 1593878903_100000000]),
    ],
)  # fmt: skip
def test_parquet_times_keep_their_resolution(tmp_path, column, expected):
    """They were cut to whole seconds, decimals too, so that what came within one second stood in the file's order."""
    table = pa.table({"u": [1, 2], "i": [1, 2], "t": column, "r": [Decimal("4.5"), Decimal("1.0")]})
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    frame = read_interactions(tmp_path, Manifest("x", RawFile("x.parquet", "", BEYOND)))
    assert (frame["time"] * 10**9 + frame.get("nanosecond", 0)).tolist() == expected
    assert frame["rating"].tolist() == [4.5, 1.0]  # a decimal's fraction was cut off too: 4


def test_bytes_in_a_parquet_table_are_text_where_they_can_be(tmp_path):
    pa.parquet.write_table(
        pa.table({"i": [b"5"], "title": [b"H\xc3\xa9"], "cover": [b"\xff"], "year": [1995]}), tmp_path / "x.parquet"
    )
    table = read_table(tmp_path / "x.parquet", Layout("parquet", {"item_key": "i"}), frozenset())
    assert table.to_dict("list") == {"item_key": ["5"], "title": ["Hé"], "cover": [b"\xff"], "year": [1995]}


def test_a_table_keeps_all_columns_as_text(tmp_path):
    (tmp_path / "x.csv").write_text("title,i,year\nHeat,5,1995\n,6,NA\n")
    table = read_table(tmp_path / "x.csv", Layout("delimited", {"item_key": "i"}), frozenset())
    assert table.to_dict("list") == {"title": ["Heat", ""], "item_key": ["5", "6"], "year": ["1995", "NA"]}


def test_a_parquet_table_keeps_its_types(tmp_path):
    pa.parquet.write_table(pa.table({"i": [5, 6], "year": [1995, None], "tags": [["a"], []]}), tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet", Layout("parquet", {"item_key": "i"}), frozenset())
    assert table["item_key"].tolist() == ["5", "6"]
    assert [str(table[name].dtype) for name in ("year", "tags")] == ["int64[pyarrow]", "list<element: string>[pyarrow]"]


def test_a_json_table_takes_wanted_items_once_and_nested_values_as_json(tmp_path):
    lines = [
        {"i": "b", "title": "first", "tags": [["x", "é"]]},
        {"i": "a", "title": "unwanted"},
        {"price": 1.5, "i": "c"},
        {"i": "b", "title": "second"},
    ]
    (tmp_path / "x.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = read_table(tmp_path / "x.json", Layout("json_lines", {"item_key": "i"}), frozenset("bc"))
    expected = {
        "item_key": ["b", "c"],
        "title": ["first", None],
        "tags": ['[["x", "é"]]', None],
        "price": [None, "1.5"],
    }
    assert table.astype(object).where(table.notna(), None).to_dict("list") == expected


GZIPPED = gzip.compress(b"u,i\n" + b"1,2\n" * 9000, mtime=0)


@pytest.mark.parametrize(
    ("content", "layout", "name", "message"),
    [
        (b"", CSV, "x", r"x must begin with a line that names its columns, got nothing"),
        (b"u\n1\n", CSV, "x", r"x has no column 'i'; it has 'u'; set fetch_data\.columns"),
        (b"u;i\n1;2\n", CSV, "x", r"x has no column 'u'; it has 'u;i'; set"),
        (b"u,i,u\n1,2,3\n", CSV, "x", r"x: the columns' names must differ, got \['u'\] more than once; rename them"),
        (b"u,i\n1,2\n3\n", CSV, "x", r"x cannot be read: .*Row #3: Expected 2 columns, got 1: 3; mend"),
        (b"u,i\n1,2\n3,4,5\n", CSV, "x", r"x cannot be read: .*Row #3: Expected 2 columns, got 3: 3,4,5; mend"),
        (b"u,i\n1,\xe9\n", CSV, "x", r"x cannot be read: .*invalid UTF8 data; mend"),
        (b"\xe9,i\n1,2\n", CSV, "x", r"x must be utf-8 text \(invalid continuation byte 0xe9\); convert it"),
        (b"1 \xe9\n", SEQUENCES, "x", r"x must be utf-8 text \(invalid continuation byte 0xe9\); convert it"),
        (GZIPPED, CSV, "x", r"x must be utf-8 text .*end its name in \.gz if it is compressed"),
        (b"u,i\n1,2\n", CSV, "x.gz", r"x\.gz is not a sound gzip file \(Not a gzipped file .*\); fetch it again"),
        (GZIPPED[:-20], CSV, "x.gz", r"x\.gz ends before its gzip stream does; fetch it again"),
        (
            gzip.compress(b"a 1 2\n", mtime=0)[:-9],
            SEQUENCES,
            "x.gz",
            r"x\.gz ends before its gzip stream does; fetch it again",
        ),
        (GZIPPED[:-8] + b"\0" * 8, CSV, "x.gz", r"x\.gz is not a sound gzip file \(CRC check failed.*fetch it again"),
        (b'{"u": 1}\nnonsense\n', JSON, "x", r"x, line 2: must be a JSON object, got 'nonsense'; mend or drop"),
        (b'{"u": 1}\n[1]\n', JSON, "x", r"x, line 2: must be a JSON object, got '\[1\]'"),
        (b"__import__('os')\n", JSON, "x", r"x, line 1: must be a JSON object"),
        (b"a 1\nb\n", SEQUENCES, "x", r"x, line 2: must hold a user and its items, got 'b'"),
        (b"a 1\nb 2\na 3\n", SEQUENCES, "x", r"x, line 3: user 'a' has line 1 already; make them one line"),
        (b"nonsense", PARQUET, "x", r"x cannot be read: .*[Pp]arquet.*; mend"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, content, layout, name, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        read_columns(tmp_path / name, layout)
    assert "\n" not in str(raised.value)


def test_a_parquet_key_may_not_be_a_fraction(tmp_path):
    pa.parquet.write_table(pa.table({"u": [1.0], "i": [1]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"column 'u' must hold text or integers, got double; convert it"):
        read_columns(tmp_path / "x.parquet", PARQUET)


def test_a_parquet_file_names_its_columns_when_one_lacks(tmp_path):
    pa.parquet.write_table(pa.table({"u": [1], "item": [1]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"has no column 'i'; it has 'u', 'item'; set fetch_data\.columns"):
        read_columns(tmp_path / "x.parquet", PARQUET)


@pytest.mark.parametrize("layout", [CSV, PARQUET, JSON, SEQUENCES])
def test_a_file_that_vanished_is_told_with_the_stage_to_run(tmp_path, layout):
    with pytest.raises(UserError, match=r"gone not found, though source\.json names it; run `dvc repro -f fetch_data`"):
        read_columns(tmp_path / "gone", layout)


def test_a_json_line_is_left_unparsed_only_where_its_item_is_certain(tmp_path):
    lines = [
        "{'i': 'a', 'title': never parsed",
        '{"i": "b", "note": "plain"}',
        "{'i': 'c', 'title': \"l'eau\"}",
        '{"note": "of \'i\': \'a\'", "i": "d"}',
        "{'related': {'i': 'a'}, 'i': 'e'}",
        '{"i" : 7}',
        '{"\\u0069": "f"}',
        '{"note": "without a key"}',
    ]
    (tmp_path / "x.json").write_text("\n".join(lines))
    table = read_table(tmp_path / "x.json", Layout("json_lines", {"item_key": "i"}), frozenset(["b", "c", "d", *"ef7"]))
    assert table["item_key"].tolist() == ["b", "c", "d", "e", "7", "f"]
