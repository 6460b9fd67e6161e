"""Raw files to checked frames."""

import pytest

from genrec.data.manifest import Layout, Manifest, RawFile
from genrec.data.readers import read_interactions, read_items, read_users
from genrec.errors import UserError

ALL = {"user_key": "user", "item_key": "item", "time": "at", "rating": "stars"}
HEADER = "user,item,at,stars\n"


@pytest.fixture
def read(tmp_path):
    """Write a csv's rows and read them as interactions."""

    def read_rows(rows, columns=ALL, **layout):
        (tmp_path / "x.csv").write_text(HEADER + rows, encoding="utf-8")
        manifest = Manifest("interactions", RawFile("x.csv", "", Layout("delimited", columns, **layout)))
        return read_interactions(tmp_path, manifest)

    return read_rows


@pytest.fixture
def read_table(tmp_path):
    """Write an item table and read the wanted rows."""

    def read_items_of(text, wanted):
        (tmp_path / "items.csv").write_text(text, encoding="utf-8")
        items = RawFile("items.csv", "", Layout("delimited", {"item_key": "item_id"}))
        return read_items(tmp_path, Manifest("x", RawFile("x.csv", "", Layout("sequences")), items), wanted)

    return read_items_of


def test_values_get_their_types(read):
    frame = read("a,x,5,4.5\nb,007,6.9,1\n")
    assert frame.to_dict("list") == {
        "user_key": ["a", "b"],
        "item_key": ["x", "007"],
        "time": [5, 6],
        "nanosecond": [0, 900_000_000],
        "rating": [4.5, 1],
    }
    assert {type(key) for name in ("user_key", "item_key") for key in frame[name]} == {str}
    assert [str(dtype) for dtype in frame.dtypes[2:]] == ["int64", "int64", "float32"]


def test_whole_seconds_bring_no_column_of_nanoseconds(read):
    assert list(read("a,x,5,4.5\nb,007,6.0,1\n")) == ["user_key", "item_key", "time", "rating"]


def test_milliseconds_become_seconds(read):
    assert read("a,x,1588687728923,1\n", time_unit="milliseconds")["time"].tolist() == [1588687728]


def moments(frame):
    """The times as nanoseconds."""
    return (frame["time"] * 10**9 + frame.get("nanosecond", 0)).tolist()


def test_what_a_time_has_beyond_its_second_is_kept(read):
    assert moments(read("a,x,1588687728923,1\n", time_unit="milliseconds")) == [1588687728_923000000]


@pytest.mark.parametrize(
    ("text", "nanosecond"),
    [
        ("1593878903.9", 900_000_000),
        ("1593878903.123456789", 123_456_789),  # as a float .123456717
        ("1593878903.123456788", 123_456_788),
        ("1593878903.1234567899", 123_456_789),
        ("+1593878903.5 ", 500_000_000),
        ("1593878903.", 0),
        ("1.5938789035e9", 500_000_000),
    ],
)
def test_a_times_digits_count_to_the_ninth_after_the_point(read, text, nanosecond):
    assert moments(read(f"a,x,{text},1\nb,x,1593878903.25,1\n")) == [
        1593878903 * 10**9 + nanosecond,
        1593878903_250000000,
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1593878903", "1.5"], [1593878903 * 10**9, 1_500000000]),
        (["1593878903123", "883612800000"], [1593878903_123000000, 883612800 * 10**9]),
        (["1593878903123456", "883612800000000"], [1593878903_123456000, 883612800 * 10**9]),
        (["1593878903123456789", "883612800000000001"], [1593878903_123456789, 883612800_000000001]),
        (["1593878903123.25", "0"], [1593878903_123250000, 0]),
        (["1593878903123456789", "1593878903123456790.5"], [1593878903_123456789, 1593878903_123456790]),
    ],
)
def test_an_unknown_unit_is_told_by_the_size_of_the_numbers(read, values, expected):
    """Integer nanoseconds were refused, with the advice to drop the row; milliseconds came out as the year 52,477."""
    rows = "".join(f"a,x,{value},1\n" for value in values)
    assert moments(read(rows, time_unit="unknown")) == expected


def test_columns_that_are_not_named_are_not_read(read):
    frame = read("a,x,never,never\n", {"user_key": "user", "item_key": "item"})
    assert frame.to_dict("list") == {"user_key": ["a"], "item_key": ["x"]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", r"x\.csv holds no interactions; give another file as fetch_data\.path"),
        ("a,x,1,1\n,x,1,1\n", r"x\.csv, row 2: column 'user' must not be empty, got ''; mend or drop the row"),
        ("a,,1,1\nb,,1,1\n", r"x\.csv, row 1 and 1 more: column 'item' must not be empty"),
        ("a,x,1,1\na,x,soon,1\n", r"row 2: column 'at' must hold seconds since 1970, got 'soon'; .*columns\.time"),
        ("a,x,,1\n", r"row 1: column 'at' must hold seconds since 1970, got ''"),
        ("a,x,nan,1\n", r"row 1: column 'at' must hold seconds since 1970, got 'nan'"),
        ("a,x,inf,1\n", r"row 1: column 'at' must hold seconds since 1970, got 'inf'"),
        ("a,x,-1,1\n", r"row 1: column 'at' must hold seconds since 1970, got '-1'"),
        ("a,x,1593878903000,1\n", r"row 1: column 'at' must hold seconds since 1970, got '1593878903000'"),
        ("a,x,1e30,1\n", r"row 1: column 'at' must hold seconds since 1970, got '1e30'"),
        ("a,x,99999999999999999999,1\n", r"row 1: column 'at' must hold seconds since 1970"),
        ("a,x,1,good\n", r"row 1: column 'stars' must hold finite numbers, got 'good'; .*columns\.rating"),
        ("a,x,1,\n", r"row 1: column 'stars' must hold finite numbers, got ''"),
        ("a,x,1,-inf\n", r"row 1: column 'stars' must hold finite numbers, got '-inf'"),
    ],
)
def test_a_value_that_breaks_a_rule_is_told_with_its_row(read, rows, message):
    with pytest.raises(UserError, match=message) as raised:
        read(rows)
    assert "\n" not in str(raised.value)


def test_an_amazon_line_without_its_time_is_told_with_its_line_and_the_count(tmp_path):
    lines = ['{"u": "a", "i": "x", "t": 1}', '{"u": "a", "i": "y"}', '{"u": "b", "i": "y", "t": null}']
    (tmp_path / "x.json").write_text("\n".join(lines) + "\n")
    layout = Layout("json_lines", {"user_key": "u", "item_key": "i", "time": "t"})
    told = r"x\.json, row 2 and 1 more: column 't' must hold seconds since 1970, got (nan|None)"  # by pandas' version
    with pytest.raises(UserError, match=told):
        read_interactions(tmp_path, Manifest("amazon-2014", RawFile("x.json", "", layout)))


def test_an_empty_file_of_sequences_is_refused(tmp_path):
    (tmp_path / "x.txt").write_text("\n")
    with pytest.raises(UserError, match=r"x\.txt holds no interactions"):
        read_interactions(tmp_path, Manifest("sequences", RawFile("x.txt", "", Layout("sequences"))))


def test_only_wanted_items_are_kept_in_the_files_order(read_table):
    table = read_table("item_id,title\nb,B\na,A\nc,C\n", ["a", "b", "z"])
    assert table.to_dict("list") == {"item_key": ["b", "a"], "title": ["B", "A"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asin,title\na,A\n", r"items\.csv has no column 'item_id'; it has 'asin', 'title'; .*rename the column"),
        ("item_id,title\na,A\nb,B\na,C\n", r"items\.csv, row 3: column 'item_id' must not have a value twice, got 'a'"),
        ("item_id,item_key\na,A\n", r"items\.csv: a table may not have a column 'item_key', which is genrec's own"),
    ],
)
def test_an_item_table_that_breaks_a_rule_is_refused(read_table, text, message):
    with pytest.raises(UserError, match=message):
        read_table(text, ["b"])


def test_no_table_is_a_table_of_no_rows(tmp_path):
    manifest = Manifest("x", RawFile("x.csv", "", Layout("sequences")))
    assert read_items(tmp_path, manifest, ["a"]).to_dict("list") == {"item_key": []}
    assert read_users(tmp_path, manifest, ["a"]).to_dict("list") == {"user_key": []}
