"""The data sets by name: which files each may consist of, and how those are laid out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from genrec.data.manifest import Layout
from genrec.errors import UserError

Layouts = Mapping[str, Layout]
# Sets of files, one of which a data set consists of: the interactions, the items and the users by their names.
Spellings = tuple[dict[str, Layout], ...]
Role = Literal["interactions", "items"]

# MovieLens may not be handed on, yet this package of the index carries it; it is unpacked, never imported or installed.
MOVIELENS_PACKAGE = "recbole==1.2.1"
MOVIELENS_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
# Where its files lie within a folder, GroupLens' archive, or the package.
MOVIELENS_FOLDERS = ("", "ml-100k", "recbole/dataset_example/ml-100k")

_RATINGS = {"user_key": "user_id", "item_key": "item_id", "time": "timestamp", "rating": "rating"}
_ITEM = {"item_key": "item_id"}
_USER = {"user_key": "user_id"}
_ATOMIC = Layout("delimited", separator="\t", typed_header=True)


def _named(columns: dict[str, str], separator: str, names: str, encoding: str = "utf-8") -> Layout:
    """A table without a header line; `names` are its columns, divided by spaces."""
    return Layout("delimited", columns, separator, tuple(names.split()), encoding=encoding)


# RecBole's files and GroupLens' own; in each the interactions, the items and the users.
MOVIELENS_FILES: Spellings = (
    {
        "ml-100k.inter": replace(_ATOMIC, columns=_RATINGS),
        "ml-100k.item": replace(_ATOMIC, columns=_ITEM),
        "ml-100k.user": replace(_ATOMIC, columns=_USER),
    },
    {
        "u.data": _named(_RATINGS, "\t", "user_id item_id rating timestamp"),
        "u.item": _named(
            _ITEM,
            "|",
            "item_id movie_title release_date video_release_date imdb_url unknown action adventure animation childrens"
            " comedy crime documentary drama fantasy film_noir horror musical mystery romance sci_fi thriller war"
            " western",
            encoding="latin-1",
        ),
        "u.user": _named(_USER, "|", "user_id age gender occupation zip_code"),
    },
)


@dataclass(frozen=True)
class Origin:
    """Who publishes a data set; nothing is downloaded from there, since the reader has to accept its terms.

    Attributes:
        page: the publisher's address.
        licence: what it allows, in a few words.
    """

    page: str
    licence: str


@dataclass(frozen=True)
class DataSet:
    """A data set whose files the user gives.

    Attributes:
        interactions, items: the layout by the ending of the file's name, .gz left out; "" stands for any ending.
    """

    interactions: Layouts
    items: Layouts
    origin: Origin | None = None


@dataclass(frozen=True)
class Archive:
    """A data set that its publisher ships as several files; the user gives their folder or the zip archive.

    Attributes:
        folders: where they may lie within it; "" is the top.
    """

    files: Spellings
    folders: tuple[str, ...]
    origin: Origin


def _json_lines(layout: Layout) -> Layouts:
    return {".json": layout, ".jsonl": layout}


def _tables(columns: dict[str, str]) -> Layouts:
    """Tables whose header names the columns."""
    tables = {
        ".csv": Layout("delimited", columns),
        ".tsv": Layout("delimited", columns, "\t"),
        ".inter": replace(_ATOMIC, columns=columns),
        ".item": replace(_ATOMIC, columns=columns),
        ".parquet": Layout("parquet", columns),
    }
    return {ending: replace(layout, time_unit="unknown") for ending, layout in tables.items()}


def _reviews(user: str, item: str, time: str, rating: str) -> dict[str, str]:
    return {"user_key": user, "item_key": item, "time": time, "rating": rating}


_VISIT = {"user_key": "user_id", "item_key": "location_id", "time": "time"}
_EVENT = {"user_key": "visitorid", "item_key": "itemid", "time": "timestamp"}
_TAGGED = {"user_key": "userID", "item_key": "artistID", "time": "timestamp"}
_OLD_REVIEWS = _json_lines(Layout("json_lines", _reviews("reviewerID", "asin", "unixReviewTime", "overall")))
_OLD_ITEMS = _json_lines(Layout("json_lines", {"item_key": "asin"}))
_NEW_COLUMNS = _reviews("user_id", "parent_asin", "timestamp", "rating")

GIVEN: dict[str, DataSet] = {
    "amazon-2014": DataSet(
        {**_OLD_REVIEWS, ".csv": _named(_RATINGS, ",", "user_id item_id rating timestamp")}, _OLD_ITEMS
    ),
    "amazon-2018": DataSet(
        {**_OLD_REVIEWS, ".csv": _named(_RATINGS, ",", "item_id user_id rating timestamp")}, _OLD_ITEMS
    ),
    "amazon-2023": DataSet(
        {
            **_json_lines(Layout("json_lines", _NEW_COLUMNS, time_unit="milliseconds")),
            ".csv": Layout("delimited", _NEW_COLUMNS, time_unit="milliseconds"),
        },
        _json_lines(Layout("json_lines", {"item_key": "parent_asin"})),
    ),
    "sequences": DataSet({"": Layout("sequences")}, _tables(_ITEM)),
    # The user names the columns of its interactions.
    "interactions": DataSet(_tables({}), _tables(_ITEM)),
    "steam": DataSet(
        # `user_id` is missing in most lines; a review has the day it was written on
        _json_lines(
            Layout("json_lines", {"user_key": "username", "item_key": "product_id", "time": "date"}, time_unit="dates")
        ),
        _json_lines(Layout("json_lines", {"item_key": "id"})),
        Origin("https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data", "for research; cite its papers"),
    ),
    "yelp": DataSet(
        _json_lines(Layout("json_lines", _reviews("user_id", "business_id", "date", "stars"), time_unit="dates")),
        _json_lines(Layout("json_lines", {"item_key": "business_id"})),
        Origin("https://business.yelp.com/data/resources/open-dataset", "academic use, by Yelp's data set terms"),
    ),
    "gowalla": DataSet(
        {".txt": replace(_named(_VISIT, "\t", "user_id time latitude longitude location_id"), time_unit="dates")},
        {},
        Origin("https://snap.stanford.edu/data/loc-Gowalla.html", "none is stated; cite its paper"),
    ),
}

_GROUPLENS = "research and education, not to be handed on (its README)"
_MOVIE = {"item_key": "movieId"}
_CSV_FILES: Spellings = (
    {
        "ratings.csv": Layout("delimited", _reviews("userId", "movieId", "timestamp", "rating")),
        "movies.csv": Layout("delimited", _MOVIE),
    },
)

ARCHIVES: dict[str, Archive] = {
    "ml-1m": Archive(
        (
            {
                "ratings.dat": _named(_RATINGS, "::", "user_id item_id rating timestamp"),
                "movies.dat": _named(_ITEM, "::", "item_id movie_title genres", encoding="latin-1"),
                "users.dat": _named(_USER, "::", "user_id gender age occupation zip_code"),
            },
        ),
        ("", "ml-1m"),
        Origin("https://grouplens.org/datasets/movielens/1m", _GROUPLENS),
    ),
    "ml-20m": Archive(_CSV_FILES, ("", "ml-20m"), Origin("https://grouplens.org/datasets/movielens/20m", _GROUPLENS)),
    "ml-25m": Archive(_CSV_FILES, ("", "ml-25m"), Origin("https://grouplens.org/datasets/movielens/25m", _GROUPLENS)),
    "retailrocket": Archive(
        # its item properties are a log of hashed values, no table of items
        ({"events.csv": Layout("delimited", _EVENT, time_unit="milliseconds")},),
        ("",),
        Origin("https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset", "CC BY-NC-SA 4.0"),
    ),
    "lastfm": Archive(
        # HetRec 2011: each tag that a user gave to an artist; a few of its moments lie before 1970
        (
            {
                "user_taggedartists-timestamps.dat": Layout(
                    "delimited", _TAGGED, "\t", time_unit="milliseconds", before_1970=True
                ),
                "artists.dat": Layout("delimited", {"item_key": "id"}, "\t"),
            },
        ),
        ("", "hetrec2011-lastfm-2k"),
        Origin("https://grouplens.org/datasets/hetrec-2011", "non-commercial use (its README)"),
    ),
}

# What `synthetic` is written as, the interactions and the items.
SYNTHETIC_FILES = {"interactions.csv": Layout("delimited", _RATINGS), "items.csv": Layout("delimited", _ITEM)}

KNOWN = ("ml-100k", *ARCHIVES, *GIVEN, "synthetic")


def layout_of(dataset: str, role: Role, name: str) -> Layout:
    """How a file of a data set is laid out, by the ending of its name.

    Raises:
        UserError: the data set has no files with that ending.

    Example:
        >>> layout_of("amazon-2014", "interactions", "reviews_Beauty_5.json.gz").columns["item_key"]
        'asin'
    """
    layouts: Layouts = getattr(GIVEN[dataset], role)
    if not layouts:
        raise UserError(f"{name}: {dataset!r} has no table of {role}; set fetch_data.{role}_path to ''")
    plain = name.lower().removesuffix(".gz")
    for ending, layout in layouts.items():
        if plain.endswith(ending):
            return layout
    raise UserError(
        f"{name}: the {role} of {dataset!r} must end in one of {', '.join(layouts)} (or that and .gz); rename the file"
    )
