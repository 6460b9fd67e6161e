"""The registry: which layout a file has by its data set and its name."""

import pytest

from genrec.data.sources import GIVEN, KNOWN, MOVIELENS_FILES, layout_of
from genrec.errors import UserError


@pytest.mark.parametrize(
    ("dataset", "name", "expected"),
    [
        ("amazon-2014", "reviews_Beauty_5.json.gz", ("json_lines", "reviewerID", "asin", "unixReviewTime")),
        ("amazon-2014", "ratings_Beauty.csv", ("delimited", "user_id", "item_id", "timestamp")),
        ("amazon-2018", "Luxury_Beauty.json.gz", ("json_lines", "reviewerID", "asin", "unixReviewTime")),
        ("amazon-2018", "Luxury_Beauty.csv", ("delimited", "user_id", "item_id", "timestamp")),
        ("amazon-2023", "All_Beauty.jsonl.gz", ("json_lines", "user_id", "parent_asin", "timestamp")),
        ("amazon-2023", "All_Beauty.csv.gz", ("delimited", "user_id", "parent_asin", "timestamp")),
    ],
)
def test_amazons_years_name_their_columns_differently(dataset, name, expected):
    layout = layout_of(dataset, "interactions", name)
    keys = (layout.columns[key] for key in ("user_key", "item_key", "time"))
    assert (layout.format, *keys) == expected


def test_amazon_put_the_user_first_in_2014_and_the_item_first_in_2018():
    assert layout_of("amazon-2014", "interactions", "x.csv").names == ("user_id", "item_id", "rating", "timestamp")
    assert layout_of("amazon-2018", "interactions", "x.csv").names == ("item_id", "user_id", "rating", "timestamp")


def test_only_amazons_2023_counts_milliseconds():
    units = {name: data.interactions[".csv"].time_unit for name, data in GIVEN.items() if ".csv" in data.interactions}
    assert [name for name, unit in units.items() if unit == "milliseconds"] == ["amazon-2023"]


@pytest.mark.parametrize("name", ["Beauty.txt", "Beauty.txt.gz", "beauty"])
def test_sequences_have_any_name(name):
    assert layout_of("sequences", "interactions", name).format == "sequences"


@pytest.mark.parametrize(
    ("name", "separator", "typed"),
    [("a.CSV", ",", False), ("a.tsv.gz", "\t", False), ("a.inter", "\t", True), ("a.parquet", ",", False)],
)
def test_a_tables_ending_tells_its_separator(name, separator, typed):
    layout = layout_of("interactions", "interactions", name)
    assert (layout.separator, layout.typed_header) == (separator, typed)


def test_an_unknown_ending_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"ratings.dat: the interactions of 'interactions' must end in one of \.csv, "):
        layout_of("interactions", "interactions", "ratings.dat")


def test_movielens_files_have_a_table_of_each_kind():
    for layouts in MOVIELENS_FILES:
        assert [sorted(layout.columns) for layout in layouts.values()] == [
            ["item_key", "rating", "time", "user_key"],
            ["item_key"],
            ["user_key"],
        ]


def test_grouplens_item_table_has_five_columns_and_nineteen_genres():
    assert len(MOVIELENS_FILES[1]["u.item"].names) == 5 + 19


def test_names_are_told_in_the_order_of_the_page():
    movielens, given = ("ml-100k", "ml-1m", "ml-20m", "ml-25m"), ("amazon-2014", "amazon-2018", "amazon-2023")
    others = ("retailrocket", "lastfm", "steam", "yelp", "gowalla", "sequences", "interactions", "synthetic")
    assert sorted(KNOWN) == sorted((*movielens, *given, *others))
    assert (KNOWN[0], KNOWN[-1]) == ("ml-100k", "synthetic")
