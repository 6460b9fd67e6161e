"""Fetching byte for byte from folders, archives, addresses and the index; one line for each mistake."""

import gzip
import hashlib
import json
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet
import pytest

from genrec.data.fetching import fetch
from genrec.data.manifest import Manifest
from genrec.data.readers import read_interactions, read_items, read_users
from genrec.errors import UserError
from genrec.params.fetch_data import Columns, FetchData, Synthetic

CONFIG = FetchData(
    name="interactions",
    path="",
    items_path="",
    sha256="",
    columns=Columns(user="user_id", item="item_id", time="timestamp", rating="rating"),
    synthetic=Synthetic(seed=1, n_users=30, n_items=20, n_clusters=4),
)
CSV = b"user_id,item_id,timestamp,rating\n7,5,100,3\n"
ATOMIC = {
    "ml-100k.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t5\t3\t100\n",
    "ml-100k.item": b'item_id:token\tmovie_title:token_seq\n5\tThe 5" Man\n',
    "ml-100k.user": b"user_id:token\tage:token\n7\t24\n",
}
GROUPLENS = {
    "u.data": b"7\t5\t3\t100\n",
    "u.item": "|".join(["5", "Misérables, Les (1995)", "01-Jan-1995", "", "", *"0" * 19]).encode("latin-1") + b"\n",
    "u.user": b"7|24|M|technician|85711\n",
}
WHEEL_FOLDER = "recbole/dataset_example/ml-100k"


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return str(folder)


def pack(file, files, inner, **more):
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{inner}/{name}" if inner else name, content)
        for name, content in more.items():
            archive.writestr(name, content)
    return str(file)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_a_local_file_is_copied_byte_for_byte(tmp_path, raw):
    write(tmp_path, {"x.csv": CSV})
    manifest = fetch(replace(CONFIG, path=str(tmp_path / "x.csv")), raw)
    assert (raw / "x.csv").read_bytes() == CSV
    assert manifest.interactions.sha256 == sha256(CSV)
    assert manifest.interactions.layout.columns["time"] == "timestamp"


def test_an_item_table_comes_along(tmp_path, raw):
    write(tmp_path, {"x.csv": CSV, "y.tsv": b"item_id\ttitle\n5\tHeat\n"})
    paths = {"path": str(tmp_path / "x.csv"), "items_path": str(tmp_path / "y.tsv")}
    manifest = fetch(replace(CONFIG, **paths), raw)
    assert read_items(raw, manifest, {"5"}).to_dict("list") == {"item_key": ["5"], "title": ["Heat"]}


PARTS = {
    "part-2.csv": CSV,
    "part-10.csv.gz": gzip.compress(b"rating,timestamp,item_id,user_id\n1,50,6,7\n", mtime=0),
    "part-1.csv": CSV.replace(b"7,5", b"8,4"),
    "part-3.csv": b"",
    "_SUCCESS": b"",
    ".part-2.csv.crc": b"crc",
}


@pytest.mark.parametrize("below", ["", "day=1/"])
def test_a_folder_of_parts_is_read_in_the_order_of_their_numbers(tmp_path, raw, below):
    """As Spark writes them; a folder was refused as a wrong ending."""
    write(tmp_path / "given" / below, PARTS)
    manifest = fetch(replace(CONFIG, path=str(tmp_path / "given")), raw)
    frame = read_interactions(raw, manifest)
    assert list(frame.itertuples(index=False, name=None)) == [("8", "4", 100, 3), ("7", "5", 100, 3), ("7", "6", 50, 1)]
    kept = [f"{below}part-1.csv", f"{below}part-2.csv", f"{below}part-10.csv.gz"]
    assert {file.relative_to(raw / "given").as_posix() for file in raw.rglob("*.*") if file.is_file()} == set(kept)
    sums = "".join(f"{sha256(PARTS[name.removeprefix(below)])}  {name}\n" for name in kept)
    assert manifest.interactions.sha256 == sha256(sums.encode())
    with pytest.raises(UserError, match="given: sha256 must be 0{64}, got"):
        fetch(replace(CONFIG, path=str(tmp_path / "given"), sha256="0" * 64), raw)


def test_a_mistake_in_a_part_is_told_with_the_part(tmp_path, raw):
    write(tmp_path / "given", {"a.csv": CSV, "b.csv": CSV + b"7,,1,2\n"})
    manifest = fetch(replace(CONFIG, path=str(tmp_path / "given")), raw)
    with pytest.raises(UserError, match=r"given/b\.csv, row 2: column 'item_id' must not be empty"):
        read_interactions(raw, manifest)


def test_parts_of_two_units_are_refused(tmp_path, raw):
    later = CSV.replace(b"100", b"1593878903000")
    write(tmp_path / "given", {"a.csv": CSV + CSV[-10:], "b.csv": later})
    manifest = fetch(replace(CONFIG, path=str(tmp_path / "given")), raw)
    with pytest.raises(
        UserError, match=r"given/b\.csv, row 1: column 'timestamp' must hold seconds since 1970, got '159"
    ):
        read_interactions(raw, manifest)


def test_an_item_table_of_parquet_parts_is_one_table(tmp_path, raw):
    write(tmp_path, {"x.csv": CSV})
    parts = {
        "a": {"item_id": ["5"], "year": pa.array([None]), "title": ["Heat"]},
        "b": {"item_id": ["6"], "year": [1995]},
    }
    (tmp_path / "items").mkdir()
    for name, columns in parts.items():
        pa.parquet.write_table(pa.table(columns), tmp_path / f"items/{name}.parquet")
    manifest = fetch(replace(CONFIG, path=str(tmp_path / "x.csv"), items_path=str(tmp_path / "items")), raw)
    table = read_items(raw, manifest, {"5", "6"})
    assert table["item_key"].tolist() == ["5", "6"]
    assert str(table["year"].dtype) == "int64[pyarrow]"
    assert table["year"].isna().tolist() == table["title"].notna().tolist() == [True, False]
    pa.parquet.write_table(pa.table({"item_id": ["7"], "year": ["?"]}), raw / "items/c.parquet")
    with pytest.raises(
        UserError, match=r"items: the parts must hold one type of column 'year', got \['int64\[.*convert"
    ):
        read_items(raw, manifest, {"5", "6"})


def test_of_an_amazon_items_lines_the_first_counts_in_whichever_part(tmp_path, raw):
    write(tmp_path, {"x.csv": b"u,i,3,100\n"})
    write(tmp_path / "meta", {"a.json": b'{"asin": "i", "title": "1"}\n', "b.json": b'{"asin": "i", "title": "2"}\n'})
    paths = {"path": str(tmp_path / "x.csv"), "items_path": str(tmp_path / "meta")}
    manifest = fetch(replace(CONFIG, name="amazon-2014", **paths), raw)
    assert read_items(raw, manifest, {"i"}).to_dict("list") == {"item_key": ["i"], "title": ["1"]}


def test_a_tilde_is_the_home(tmp_path, raw, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, {"x.csv": CSV, "y.csv": b"item_id\n5\n"})
    write(tmp_path / "ml", ATOMIC)
    assert fetch(replace(CONFIG, path="~/x.csv", items_path="~/y.csv"), raw).interactions.name == "x.csv"
    assert fetch(replace(CONFIG, name="ml-100k", path="~/ml"), raw).dataset == "ml-100k"


def test_no_path_of_this_machine_is_noted(tmp_path, raw):
    write(tmp_path, {"x.csv": CSV})
    fetch(replace(CONFIG, path=str(tmp_path / "x.csv")), raw).save(raw)
    assert str(tmp_path) not in (raw / "source.json").read_text()


def test_a_column_that_is_not_there_is_left_out(tmp_path, raw):
    write(tmp_path, {"x.csv": CSV})
    columns = Columns(user="user_id", item="item_id", time="", rating="")
    manifest = fetch(replace(CONFIG, path=str(tmp_path / "x.csv"), columns=columns), raw)
    assert list(read_interactions(raw, manifest)) == ["user_key", "item_key"]


@pytest.mark.parametrize("inner", ["", "ml-100k"])
@pytest.mark.parametrize("files", [ATOMIC, GROUPLENS])
def test_movielens_comes_from_a_folder(tmp_path, raw, inner, files):
    write(tmp_path / "given" / inner, files)
    manifest = fetch(replace(CONFIG, name="ml-100k", path=str(tmp_path / "given")), raw)
    assert {file.name: file.read_bytes() for file in raw.iterdir()} == files
    assert read_interactions(raw, manifest).iloc[0].tolist() == ["7", "5", 100, 3.0]
    assert read_users(raw, manifest, {"7"})["age"].tolist() == ["24"]


@pytest.mark.parametrize(("files", "inner"), [(ATOMIC, WHEEL_FOLDER), (GROUPLENS, "ml-100k"), (GROUPLENS, "")])
def test_movielens_comes_from_an_archive(tmp_path, raw, files, inner):
    path = pack(tmp_path / "given.zip", files, inner, **{"../evil": b"", "ml-100k/other": b""})
    fetch(replace(CONFIG, name="ml-100k", path=path), raw)
    assert {file.name: file.read_bytes() for file in raw.iterdir()} == files
    assert not (tmp_path / "evil").exists()


def test_titles_keep_their_accents_and_quotes(tmp_path, raw):
    for files, title in ((GROUPLENS, "Misérables, Les (1995)"), (ATOMIC, 'The 5" Man')):
        manifest = fetch(replace(CONFIG, name="ml-100k", path=write(tmp_path / title[:3], files)), raw)
        assert read_items(raw, manifest, {"5"})["movie_title"].tolist() == [title]


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index of one wheel, which pip is told to use instead of any other."""
    dist = "recbole-1.2.1.dist-info"
    about = {
        f"{dist}/METADATA": b"Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n",
        f"{dist}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{dist}/RECORD": b"",
    }
    links = tmp_path / "links"
    links.mkdir()
    pack(links / "recbole-1.2.1-py3-none-any.whl", ATOMIC, WHEEL_FOLDER, **about)
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(links), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return links


def test_movielens_comes_out_of_a_package_without_installing_it(index, raw):
    wheel = next(index.iterdir()).read_bytes()
    fetch(replace(CONFIG, name="ml-100k", sha256=sha256(wheel)), raw)
    assert {file.name: file.read_bytes() for file in raw.iterdir()} == ATOMIC


def test_another_package_under_the_same_name_is_refused(index, raw):
    with pytest.raises(UserError, match=r"recbole-1\.2\.1-py3-none-any\.whl: sha256 must be 9c99\w+, got \w+; .*"):
        fetch(replace(CONFIG, name="ml-100k"), raw)
    assert not list(raw.iterdir())


def test_an_index_without_the_package_is_told_in_one_line(index, raw):
    next(index.iterdir()).unlink()
    with pytest.raises(
        UserError, match=r"pip could not download recbole==1.2.1 \(.*\); .* set fetch_data\.path"
    ) as raised:
        fetch(replace(CONFIG, name="ml-100k"), raw)
    assert "\n" not in str(raised.value)


def test_synthetic_data_follow_from_the_seed(tmp_path):
    manifests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        config = replace(CONFIG, name="synthetic", synthetic=replace(CONFIG.synthetic, seed=seed))
        manifests.append(fetch(config, tmp_path / name))
    assert manifests[0] == manifests[1] != manifests[2]
    frame = read_interactions(tmp_path / "a", manifests[0])
    assert list(frame) == ["user_key", "item_key", "time", "rating"]
    assert set(frame["user_key"]) == {f"u{n}" for n in range(1, 31)}
    items = read_items(tmp_path / "a", manifests[0], {"i1", "i20"})
    assert sorted(items["item_key"]) == ["i1", "i20"]
    assert list(items) == ["item_key", "cluster"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/gone"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CSV) + (5 if self.path.startswith("/cut") else 0)))
        self.end_headers()
        self.wfile.write(CSV)

    def log_message(self, *_):
        pass


@pytest.fixture
def address(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_address_is_downloaded(address, raw):
    manifest = fetch(replace(CONFIG, path=f"{address}/a/my%20file.csv?x=1", sha256=sha256(CSV)), raw)
    assert manifest.interactions.name == "my file.csv"
    assert [(file.name, file.read_bytes()) for file in raw.iterdir()] == [("my file.csv", CSV)]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/gone.csv", r"fetch_data\.path: http.*/gone\.csv could not be downloaded \(HTTP Error 404.*\); check"),
        ("/cut.csv", r"fetch_data\.path: http.*/cut\.csv broke off after 43 of 48 bytes; try again"),
    ],
)
def test_a_failed_download_is_told_and_leaves_no_file_that_looks_whole(address, raw, path, message):
    with pytest.raises(UserError, match=message):
        fetch(replace(CONFIG, path=address + path), raw)
    assert not (raw / path[1:]).exists()


def test_a_server_that_is_not_there_is_told(raw):
    with pytest.raises(UserError, match=r"could not be downloaded \(.*refused.*\)"):
        fetch(replace(CONFIG, path="http://127.0.0.1:1/x.csv"), raw)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "movielens"}, r"fetch_data\.name: no data set named 'movielens'; known: ml-100k, ml-1m, "),
        ({"path": ""}, r"fetch_data\.path is empty, and 'interactions' has no source of its own; give"),
        ({"path": "{tmp}/no.csv"}, r"fetch_data\.path: .*/no\.csv not found; give a file"),
        ({"path": "{tmp}/dir.csv"}, r"fetch_data\.path: .*/dir\.csv is a folder without a file; give a file, or"),
        ({"path": "{tmp}/dir.csv", "name": "sequences"}, r"dir\.csv is a folder without a file"),
        ({"path": "{tmp}/whole", "name": "sequences"}, r"whole is a folder; give a file, or an address"),
        ({"path": "{tmp}/whole"}, r"whole/u\.data: the interactions of 'interactions' must end in one of \.csv"),
        ({"path": "{tmp}/mixed"}, r"the parts in .*mixed must be of one kind, got \['csv', 'tsv'\]; remove the others"),
        ({"path": "{tmp}/delta"}, r"delta is a Delta table, which keeps deleted rows; export it as parquet"),
        ({"path": "{tmp}/x.csv", "items_path": "~no-such-user/y.csv"}, r"\.items_path: ~no-such-user/y\.csv begins"),
        ({"path": "s3://bucket/x.csv"}, r"x\.csv not found; give a file, or an address that begins with http"),
        ({"path": "http://127.0.0.1:1"}, r"names no file"),
        ({"path": "{tmp}/x.csv", "items_path": "{tmp}/no.csv"}, r"fetch_data\.items_path: .*no\.csv not found"),
        ({"path": "{tmp}/x.csv", "items_path": "{tmp}/dir.csv/x.csv"}, r"must differ in their names .*rename one"),
        ({"path": "{tmp}/source.json", "name": "sequences"}, r"and not be source\.json"),
        ({"path": "{tmp}/x.xlsx"}, r"x\.xlsx: the interactions of 'interactions' must end in one of \.csv"),
        ({"path": "{tmp}/x.csv", "sha256": "0" * 64}, r"x\.csv: sha256 must be 0{64}, got \w{64}; fetch the right"),
        ({"path": "{tmp}/x.csv", "columns": Columns("", "i", "", "")}, r"must name a user and an item column"),
        ({"path": "{tmp}/x.csv", "columns": Columns("a", "a", "", "")}, r"name different columns, got \['a', 'a'\]"),
        ({"name": "ml-100k", "path": "{tmp}/no"}, r"no not found; give a folder or an archive that holds ml-100k"),
        ({"name": "ml-100k", "path": "{tmp}/x.csv"}, r"x\.csv is not a zip archive; give a folder or an archive"),
        ({"name": "ml-100k", "path": "{tmp}"}, r"holds no ml-100k\.inter or u\.data; give a folder or an archive"),
        ({"name": "ml-100k", "path": "{tmp}/part"}, r"part lacks u\.item; give the complete data set"),
        ({"name": "ml-100k", "path": "{tmp}/bad.zip"}, r"bad\.zip is damaged at u\.data \(Bad CRC.*\); fetch it again"),
        ({"name": "ml-100k", "path": "{tmp}/whole", "sha256": "0" * 64}, r"whole/u\.data: sha256 must be 0{64}, got"),
        ({"name": "ml-100k", "path": "{tmp}/bad.zip", "sha256": "0" * 64}, r"bad\.zip: sha256 must be 0{64}, got"),
        ({"name": "ml-100k", "items_path": "x"}, r"fetch_data\.items_path must be empty for 'ml-100k', got 'x'"),
        ({"name": "synthetic", "path": "x"}, r"fetch_data\.path must be empty for 'synthetic', got 'x'"),
        ({"name": "synthetic", "synthetic": Synthetic(1, 9, 10, 11)}, r"must not exceed n_items.*lower n_clusters"),
        ({"name": "synthetic", "sha256": "0" * 64}, r"interactions\.csv: sha256 must be 0{64}, got"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line_with_the_way_out(tmp_path, raw, changes, message):
    (tmp_path / "dir.csv").mkdir()
    write(tmp_path, {"x.csv": CSV, "x.xlsx": b"", "source.json": b"1 2 3"})
    write(tmp_path / "part", {"u.data": b""})
    write(tmp_path / "mixed", {"a.csv": CSV, "b.tsv.gz": CSV})
    write(tmp_path / "delta" / "_delta_log", {"0.json": b"{}"})
    write(tmp_path / "whole", GROUPLENS)
    damaged = pack(tmp_path / "bad.zip", GROUPLENS, "")
    content = (tmp_path / "bad.zip").read_bytes().replace(b"7\t5\t3\t100\n", b"7\t5\t3\t999\n")
    (tmp_path / damaged).write_bytes(content)
    changes = {k: v.format(tmp=tmp_path) if isinstance(v, str) else v for k, v in changes.items()}
    with pytest.raises(UserError, match=message) as raised:
        fetch(replace(CONFIG, **changes), raw)
    assert "\n" not in str(raised.value)


def test_what_is_noted_can_be_read_again(tmp_path, raw):
    write(tmp_path, {"x.csv": CSV})
    manifest = fetch(replace(CONFIG, path=str(tmp_path / "x.csv")), raw)
    manifest.save(raw)
    assert Manifest.load(raw) == manifest
    assert list(json.loads((raw / "source.json").read_text())) == ["dataset", "interactions", "items", "users"]
