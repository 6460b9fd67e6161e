"""Data sets as their publishers ship them: small files of the same form give the right interactions and tables."""

import gzip
import zipfile
from dataclasses import replace

import pytest

from genrec.data.fetching import fetch
from genrec.data.manifest import Manifest
from genrec.data.readers import read_interactions, read_items, read_users
from genrec.data.sources import ARCHIVES, GIVEN
from genrec.errors import UserError
from genrec.params.fetch_data import Columns, FetchData, Synthetic

CONFIG = FetchData(
    name="ml-1m",
    path="",
    items_path="",
    sha256="",
    columns=Columns(user="user_id", item="item_id", time="timestamp", rating="rating"),
    synthetic=Synthetic(seed=1, n_users=30, n_items=20, n_clusters=4),
)
MOVIES = b'movieId,title,genres\n2,"Heat, The (1995)",Crime|Drama\n'
RATINGS = b"userId,movieId,rating,timestamp\n7,2,3.5,1112486027\n"
TAGGED = b"userID\tartistID\ttagID\ttimestamp\r\n7\t2\t13\t1238536800000\r\n7\t2\t14\t-428720400000\r\n"
ARCHIVED = {
    "ml-1m": (
        "ml-1m",
        {
            "ratings.dat": b"7::2::3::978302109\n",
            "movies.dat": "2::Misérables, Les: Part (1995)::Drama|Musical\n".encode("latin-1"),
            "users.dat": b"7::F::1::10::48067\n",
        },
        [("7", "2", 978302109, 3.0)],
        {"movie_title": "Misérables, Les: Part (1995)", "genres": "Drama|Musical"},
    ),
    "ml-20m": (
        "ml-20m",
        {"ratings.csv": RATINGS, "movies.csv": MOVIES},
        [("7", "2", 1112486027, 3.5)],
        {"title": "Heat, The (1995)", "genres": "Crime|Drama"},
    ),
    "ml-25m": (
        "ml-25m",
        {"ratings.csv": RATINGS, "movies.csv": MOVIES},
        [("7", "2", 1112486027, 3.5)],
        {"title": "Heat, The (1995)", "genres": "Crime|Drama"},
    ),
    "retailrocket": (
        "",
        {"events.csv": b"timestamp,visitorid,event,itemid,transactionid\n1433221332117,7,view,2,\n"},
        [("7", "2", 1433221332, None)],
        None,
    ),
    "lastfm": (
        "hetrec2011-lastfm-2k",
        {
            "user_taggedartists-timestamps.dat": TAGGED,
            "artists.dat": 'id\tname\turl\tpictureURL\r\n2\tBjörk "B"\tu\tp\r\n'.encode(),
        },
        [("7", "2", 1238536800, None), ("7", "2", -428720400, None)],
        {"name": 'Björk "B"', "url": "u", "pictureURL": "p"},
    ),
}
STEAM_REVIEWS = (
    b"{u'username': u'O\\'Neil', u'hours': 0.1, u'products': 41, u'product_id': u'725280', u'page_order': 0, u'date':"
    b" u'2017-12-17', u'text': u'ok\\xe9', u'early_access': False, u'page': 1}\n"
)
STEAM_GAMES = b"{u'genres': [u'Action'], u'title': u'Lost', u'id': u'725280', u'price': 4.99}\n{u'title': u'no id'}\n"
YELP_REVIEWS = (
    b'{"review_id":"r","user_id":"u","business_id":"b","stars":3.0,"useful":0,"text":"x",'
    b'"date":"2018-07-07 22:09:11"}\n'
)
YELP_BUSINESSES = b'{"business_id":"b","name":"Caf\xc3\xa9","categories":"Food, Coffee","is_open":1}\n'
CHECKINS = b"0\t2010-10-19T23:55:27Z\t30.2359\t-97.7951\t22847\n0\t2010-10-18T22:17:43Z\t30.2691\t-97.7493\t420315\n"


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def rows(frame):
    """The interactions as tuples, of which a source without ratings has None; all of these have whole seconds."""
    assert "nanosecond" not in frame or frame["nanosecond"].tolist() == [117_000_000]
    ratings = frame["rating"].tolist() if "rating" in frame else [None] * len(frame)
    return list(zip(frame["user_key"], frame["item_key"], frame["time"].tolist(), ratings, strict=True))


@pytest.mark.parametrize("name", ARCHIVED)
@pytest.mark.parametrize("is_archive", [False, True])
def test_an_archive_of_its_publisher_is_read_whole(tmp_path, raw, name, is_archive):
    inner, files, expected, item = ARCHIVED[name]
    place = tmp_path / "given.zip" if is_archive else tmp_path / "given"
    if is_archive:
        with zipfile.ZipFile(place, "w") as archive:
            for file, content in files.items():
                archive.writestr(f"{inner}/{file}" if inner else file, content)
    else:
        (place / inner).mkdir(parents=True)
        for file, content in files.items():
            (place / inner / file).write_bytes(content)
    fetch(replace(CONFIG, name=name, path=str(place)), raw).save(raw)
    manifest = Manifest.load(raw)
    assert rows(read_interactions(raw, manifest)) == expected
    table = read_items(raw, manifest, {"2"}).to_dict("records")
    assert table == ([] if item is None else [{"item_key": "2", **item}])
    assert {file.name for file in raw.iterdir()} == {*files, "source.json"}


def test_movielens_1m_has_its_users(tmp_path, raw):
    for file, content in ARCHIVED["ml-1m"][1].items():
        (tmp_path / file).write_bytes(content)
    manifest = fetch(replace(CONFIG, path=str(tmp_path)), raw)
    (user,) = read_users(raw, manifest, {"7"}).to_dict("records")
    assert user == {"user_key": "7", "gender": "F", "age": "1", "occupation": "10", "zip_code": "48067"}


@pytest.mark.parametrize(
    ("name", "interactions", "items", "expected", "item"),
    [
        ("steam", ("steam_reviews.json.gz", STEAM_REVIEWS), ("steam_games.json.gz", STEAM_GAMES),
         [("O'Neil", "725280", 1513468800, None)], {"title": "Lost", "genres": '["Action"]', "price": "4.99"}),
        ("yelp", ("review.json", YELP_REVIEWS), ("business.json", YELP_BUSINESSES),
         [("u", "b", 1531001351, 3.0)], {"name": "Café", "categories": "Food, Coffee", "is_open": "1"}),
        ("gowalla", ("totalCheckins.txt.gz", CHECKINS), None,
         [("0", "22847", 1287532527, None), ("0", "420315", 1287440263, None)], None),
    ],
)  # fmt: skip
def test_files_of_their_publisher_are_read(tmp_path, raw, name, interactions, items, expected, item):
    for file, content in filter(None, (interactions, items)):
        (tmp_path / file).write_bytes(gzip.compress(content) if file.endswith(".gz") else content)
    paths = {"path": str(tmp_path / interactions[0]), "items_path": str(tmp_path / items[0]) if items else ""}
    manifest = fetch(replace(CONFIG, name=name, **paths), raw)
    assert rows(read_interactions(raw, manifest)) == expected
    table = read_items(raw, manifest, {"725280", "b"}).to_dict("records")
    assert [{key: row[key] for key in item} for row in table] == [item] if item else table == []


@pytest.mark.parametrize("name", [*ARCHIVES, "steam", "yelp", "gowalla"])
def test_nothing_is_downloaded_but_the_page_and_the_licence_are_told(raw, name):
    origin = ARCHIVES[name].origin if name in ARCHIVES else GIVEN[name].origin
    with pytest.raises(UserError) as told:
        fetch(replace(CONFIG, name=name), raw)
    assert origin.page in str(told.value)
    assert origin.licence in str(told.value)


def test_the_licence_is_told_when_the_files_are_given(tmp_path, raw, capsys):
    (tmp_path / "events.csv").write_bytes(ARCHIVED["retailrocket"][1]["events.csv"])
    fetch(replace(CONFIG, name="retailrocket", path=str(tmp_path)), raw)
    assert "licence: CC BY-NC-SA 4.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("gowalla", "x.txt", b"0\tyesterday\t1\t2\t3\n", r"row 1: column 'time' must hold dates such as .*'yesterday'"),
        ("gowalla", "x.txt", b"0\t1950-01-01T00:00:00Z\t1\t2\t3\n", r"column 'time' must hold times since 1970"),
        ("ml-1m", "ratings.dat", b"7::2::3\n", r"ratings\.dat cannot be read: .*4"),
    ],
)
def test_a_mistake_is_told_with_its_row(tmp_path, raw, name, file, content, message):
    (tmp_path / file).write_bytes(content)
    for other in ("movies.dat", "users.dat"):
        (tmp_path / other).write_bytes(b"")
    path = tmp_path if name in ARCHIVES else tmp_path / file
    manifest = fetch(replace(CONFIG, name=name, path=str(path)), raw)
    with pytest.raises(UserError, match=message):
        read_interactions(raw, manifest)


def test_a_data_set_without_items_refuses_a_table_of_them(tmp_path, raw):
    (tmp_path / "x.txt").write_bytes(CHECKINS)
    paths = {"path": str(tmp_path / "x.txt"), "items_path": str(tmp_path / "i.csv")}
    (tmp_path / "i.csv").write_bytes(b"item_id\n")
    with pytest.raises(UserError, match="i.csv: 'gowalla' has no table of items; set fetch_data.items_path to ''"):
        fetch(replace(CONFIG, name="gowalla", **paths), raw)
