"""Inputs that are wrong, by hand: what is given, and the words that the answer must hold.

Each ends with one line that names the rule, the value, the place and the way out.
"""

import gzip
import io
import os
import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

Case = tuple[str, Any, tuple[str, ...]]

HEADER = "user_id,item_id,timestamp,rating\n"
# 4 users with the same 5 items: enough for every threshold
ROWS = "".join(f"u{user},i{item},{100 + item},4\n" for user in range(4) for item in range(5))
GOOD = HEADER + ROWS


def compressed(content: bytes) -> bytes:
    """Without the time of day: test processes must agree on the names of the cases."""
    return gzip.compress(content, mtime=0)


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def npy(array: Any, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


class Dangerous:
    """Unpickling it would leave a file behind."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch stolen",)


def dangerous_checkpoint() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {}, "hyper_parameters": Dangerous()}, buffer)
    return buffer.getvalue()


def row(text: str) -> bytes:
    """A good file with one more row."""
    return (GOOD + text + "\n").encode("utf-8", "surrogatepass")


KEYS = ["u", "u", "u", "v", "v", "v"]
ITEMS = ["a", "b", "c", "a", "b", "c"]
JSON = '{"user_id": "u", "parent_asin": "a", "timestamp": 1, "rating": 5}\n'

# a file of interactions: its name, its bytes, the answer; a JSON file is read as amazon-2023, .txt as sequences
INTERACTIONS: list[Case] = [
    ("empty.csv", b"", ("empty.csv", "must begin with a line that names its columns", "give another file")),
    ("header.csv", HEADER.encode(), ("header.csv holds no interactions", "give another file")),
    ("blank.csv", b"\n\n\n", ("must begin with a line that names its columns",)),
    ("space.csv", b" \n", ("has no column", "set fetch_data.columns")),
    ("nul.csv", b"\x00" * 64, ("nul.csv", "has no column")),
    ("no_item.csv", b"user_id,timestamp,rating\nu,1,5\n", ("has no column 'item_id'", "set fetch_data.columns")),
    ("no_time.csv", b"user_id,item_id,rating\nu,i,5\n", ("has no column 'timestamp'",)),
    ("no_rating.csv", b"user_id,item_id,timestamp\nu,i,5\n", ("has no column 'rating'",)),
    ("twice.csv", b"user_id,item_id,item_id,timestamp,rating\nu,i,i,1,5\n", ("must differ, got ['item_id']", "rename")),
    ("case.csv", GOOD.replace("user_id", "User_ID").encode(), ("has no column 'user_id'; it has 'User_ID'",)),
    ("headless.csv", ROWS.encode(), ("has no column", "it has 'u0'")),
    ("semicolons.csv", GOOD.replace(",", ";").encode(), ("has no column",)),
    ("tabs.csv", GOOD.replace(",", "\t").encode(), ("has no column",)),
    ("commas.tsv", GOOD.encode(), ("has no column",)),
    ("macintosh.csv", GOOD.replace("\n", "\r").encode(), ("must be text with a line a row", "end its lines")),
    ("short.csv", row("u9,i1"), ("short.csv cannot be read", "Expected 4 columns, got 2", "mend the file")),
    ("long.csv", row("u9,i1,1,2,3"), ("Expected 4 columns, got 5",)),
    ("quote.csv", row('"u9,i1,1,2'), ("quote.csv cannot be read",)),
    ("no_user.csv", row(",i1,1,4"), ("row 21: column 'user_id' must not be empty, got ''", "mend or drop the row")),
    ("no_key.csv", row("u1,,1,4"), ("row 21: column 'item_id' must not be empty",)),
    ("nan.csv", row("u1,i1,nan,4"), ("row 21", "column 'timestamp' must hold seconds since 1970, got 'nan'", "mend")),
    ("NaN.csv", row("u1,i1,NaN,4"), ("got 'NaN'",)),
    ("infinite.csv", row("u1,i1,inf,4"), ("got 'inf'",)),
    ("minus_infinite.csv", row("u1,i1,-inf,4"), ("got '-inf'",)),
    ("negative.csv", row("u1,i1,-1,4"), ("got '-1'",)),
    ("huge.csv", row("u1,i1,1e400,4"), ("got '1e400'",)),
    ("beyond.csv", row("u1,i1,9223372036854775808,4"), ("got '9223372036854775808'",)),
    ("far.csv", row("u1,i1,9007199254740992,4"), ("got '9007199254740992'",)),
    ("milliseconds.csv", row("u1,i1,1593878903000,4"), ("row 21", "must hold seconds since 1970, got '1593878903000'")),
    ("two_units.parquet", parquet(user_id=KEYS, item_id=ITEMS, timestamp=[1593878903] + [1593878903000] * 5,
                                  rating=[5] * 6), ("row 1: ", "must hold milliseconds since 1970, got 1593878903;")),
    ("date.csv", row("u1,i1,2020-01-01,4"), ("got '2020-01-01'", "set fetch_data.columns.time to ''")),
    ("word.csv", row("u1,i1,yesterday,4"), ("got 'yesterday'",)),
    ("none.csv", row("u1,i1,,4"), ("must hold seconds since 1970, got ''",)),
    ("two.csv", row("u1,i1,x,4\nu1,i1,y,4"), ("row 21 and 1 more", "got 'x'")),
    ("stars.csv", row("u1,i1,1,****"), ("column 'rating' must hold finite numbers, got '****'",)),
    ("nan_rating.csv", row("u1,i1,1,nan"), ("must hold finite numbers, got 'nan'",)),
    ("float32.csv", row("u1,i1,1,1e39"), ("must hold finite numbers, got '1e39'",)),
    ("inf_rating.csv", row("u1,i1,1,Infinity"), ("must hold finite numbers, got 'Infinity'",)),
    ("latin.csv", GOOD.encode() + "ü,i1,1,4\n".encode("latin-1"), ("latin.csv", "UTF8", "mend the file")),
    ("latin_header.csv", "üser,item_id\n".encode("latin-1"), ("must be utf-8 text", "0xfc", "convert it")),
    ("wide.csv", GOOD.encode("utf-16"), ("must be utf-8 text", "convert it")),
    ("surrogate.csv", row("\ud800,i1,1,4"), ("UTF8",)),
    ("gzipped.csv", compressed(GOOD.encode()), ("end its name in .gz if it is compressed",)),
    ("plain.csv.gz", GOOD.encode(), ("is not a sound gzip file", "drop .gz from its name")),
    ("truncated.csv.gz", compressed(GOOD.encode() * 99)[:-40], ("ends before its gzip stream does", "again")),
    ("beginning.csv.gz", compressed(GOOD.encode())[:12], ("ends before its gzip stream does",)),
    ("garbage.csv.gz", compressed(GOOD.encode()) + b"garbage", ("is not a sound gzip file",)),
    ("empty.csv.gz", b"", ("must begin with a line that names its columns",)),
    ("damaged.csv.gz", bytearray(compressed(ROWS.encode() * 9))[:50] + b"\xff" * 60, ("damaged.csv.gz", "again")),
    ("one_each.csv", (HEADER + "u1,i1,1,4\nu2,i2,1,4\n").encode(), ("no interaction is left: of 2 read", "lower")),
    ("one_user.csv", (HEADER + "u1,i1,1,4\n").encode(), ("no interaction is left: of 1 read", "min_user_interact")),
    ("same_user.csv", (HEADER + "".join(f"u,i{step},1,4\n" * 5 for step in range(3))).encode(),
     ("one user is left of the 1 read", "give data of more users")),
    ("file.inter", b"user_id\titem_id\trating\nu\ti\t5\n", ("has no column 'timestamp'",)),
    ("no.parquet", b"", ("no.parquet cannot be read",)),
    ("text.parquet", GOOD.encode(), ("text.parquet cannot be read", "mend the file")),
    ("cut.parquet", parquet(user_id=KEYS, item_id=ITEMS)[:-9], ("cut.parquet cannot be read",)),
    ("fraction.parquet", parquet(user_id=[0.5] * 6, item_id=ITEMS, timestamp=[1] * 6, rating=[5] * 6),
     ("column 'user_id' must hold text or integers, got double", "convert it")),
    ("money.parquet", parquet(user_id=[Decimal("1.50")] * 6, item_id=ITEMS, timestamp=[1] * 6, rating=[5] * 6),
     ("column 'user_id' must hold text or integers, got decimal128(3, 2)", "convert it")),
    ("bytes.parquet", parquet(user_id=[b"\xff"] * 6, item_id=ITEMS, timestamp=[1] * 6, rating=[5] * 6),
     ("column 'user_id' must hold text or integers, got binary",)),
    ("lists.parquet", parquet(user_id=[[1]] * 6, item_id=ITEMS, timestamp=[1] * 6, rating=[5] * 6),
     ("must hold text or integers, got list",)),
    ("null.parquet", parquet(user_id=[*KEYS[:5], None], item_id=ITEMS, timestamp=[1] * 6, rating=[5] * 6),
     ("row 6: column 'user_id' must not be empty",)),
    ("nulls.parquet", parquet(user_id=[None] * 6, item_id=ITEMS, timestamp=[1] * 6, rating=[5] * 6),
     ("must hold text or integers, got null",)),
    ("nan.parquet", parquet(user_id=KEYS, item_id=ITEMS, timestamp=[float("nan")] * 6, rating=[5] * 6),
     ("row 1 and 5 more", "must hold seconds since 1970, got nan")),
    ("yes.parquet", parquet(user_id=KEYS, item_id=ITEMS, timestamp=[True] * 6, rating=[5] * 6),
     ("must hold seconds since 1970, got True",)),
    ("list_times.parquet", parquet(user_id=KEYS, item_id=ITEMS, timestamp=[[1]] * 6, rating=[5] * 6),
     ("must hold seconds since 1970",)),
    ("before.parquet", parquet(user_id=KEYS, item_id=ITEMS, timestamp=pa.array([-1] * 6, pa.timestamp("s")),
                               rating=[5] * 6), ("must hold times since 1970, got '1969-12-31 23:59:59'",)),
    ("never.parquet", parquet(user_id=KEYS, item_id=ITEMS, timestamp=pa.array([None] * 6, pa.timestamp("s")),
                              rating=[5] * 6), ("must hold times since 1970, got NaT",)),
    ("span.parquet", parquet(user_id=KEYS, item_id=ITEMS, timestamp=pa.array([1] * 6, pa.duration("s")),
                             rating=[5] * 6), ("span.parquet cannot be read", "mend the file")),
    ("columns.parquet", parquet(user=KEYS, item_id=ITEMS), ("it has 'user', 'item_id'; set fetch_data.columns",)),
    ("a.jsonl", b"", ("holds no interactions",)),
    ("b.jsonl", b"\n", ("line 1: must be a JSON object, got ''", "mend or drop the line")),
    ("c.jsonl", (JSON + "[1, 2]\n").encode(), ("line 2: must be a JSON object, got '[1, 2]'",)),
    ("d.jsonl", (JSON + JSON[:30]).encode(), ("line 2: must be a JSON object",)),
    ("e.jsonl", JSON.replace("1,", "NaN,").encode(), ("line 1: must be a JSON object",)),
    ("f.jsonl", JSON.replace("1,", "1e999,").encode(), ("must hold milliseconds since 1970, got 'inf'",)),
    ("g.jsonl", JSON.replace("1,", '"x",').encode(), ("must hold milliseconds since 1970, got 'x'",)),
    ("h.jsonl", JSON.replace("1,", "null,").encode(), ("must hold milliseconds since 1970",)),
    ("i.jsonl", JSON.replace('"u"', "null").encode(), ("row 1: column 'user_id' must not be empty",)),
    ("j.jsonl", JSON.replace('"u"', '""').encode(), ("row 1: column 'user_id' must not be empty",)),
    ("k.jsonl", JSON.replace('"u"', '"\\ud800"').encode(), ("which is no text", "mend it")),
    ("l.jsonl", JSON.replace("1,", "1" * 5000 + ",").encode(), ("line 1: must be a JSON object",)),
    ("m.jsonl", b"[" * 100_000 + b"\n", ("line 1: must be a JSON object",)),
    ("n.jsonl", b"__import__('os').system('touch stolen')\n", ("line 1: must be a JSON object",)),
    ("o.jsonl", JSON.encode("utf-16"), ("must be utf-8 text", "convert it")),
    ("p.json", ("[" + JSON.strip() + "]").encode(), ("line 1: must be a JSON object", "mend or drop")),
    ("a.txt", b"", ("holds no interactions",)),
    ("b.txt", b"u1 a b c\nu2\n", ("line 2: must hold a user and its items, got 'u2'", "mend or drop the line")),
    ("c.txt", b"u1 a b c\nu1 d\n", ("line 2: user 'u1' has line 1 already", "make them one line")),
    ("d.txt", b"\xff\xfe", ("must be utf-8 text",)),
]  # fmt: skip

# a file of interactions that looks wrong and is not: its name, its bytes, the (user, item) pairs that it holds
PAIR = [("u1", "i1"), ("u1", "i2")]
ODD_INTERACTIONS: list[tuple[str, bytes, list[tuple[str, str]]]] = [
    ("mixed_line_ends.csv", (HEADER.replace("\n", "\r\n") + "u1,i1,1,4\nu1,i2,2,4\r\n").encode(), PAIR),
    ("three_line_ends.csv", (HEADER + "u1,i1,1,4\ru1,i2,2,4\n\r\n").encode(), PAIR),
    ("no_last_line_end.csv", (HEADER + "u1,i1,1,4\r\nu1,i2,2,4").encode(), PAIR),
    ("blank_lines.csv", (HEADER + "\nu1,i1,1,4\n\r\nu1,i2,2,4\n\n").encode(), PAIR),
    ("mark.csv", ("\ufeff" + HEADER + "u1,i1,1,4\nu1,i2,2,4\n").encode(), PAIR),
    ("two_members.csv.gz", compressed((HEADER + "u1,i1,1,4\n").encode()) + compressed(b"u1,i2,2,4\n"), PAIR),
    ("duplicate_rows.csv", (HEADER + "u1,i1,1,4\n" * 2).encode(), [("u1", "i1"), ("u1", "i1")]),
    ("negative_ids.csv", (HEADER + "-7,-1,1,4\n7,1,1,4\n").encode(), [("-7", "-1"), ("7", "1")]),
    ("huge_ids.csv", (HEADER + f"{10**40},{-(10**40)},1,4\n").encode(), [(f"{10**40}", f"{-(10**40)}")]),
    ("zeros.csv", (HEADER + "007,7,1,4\n7,007,1,4\n").encode(), [("007", "7"), ("7", "007")]),
    ("words.csv", (HEADER + "NULL,nan,1,4\nTrue,1e3,1,4\n").encode(), [("NULL", "nan"), ("True", "1e3")]),
    ("unicode.csv", (HEADER + "☃\u202e,e\u0301,1,4\n\u200b,é,1,4\n").encode(),
     [("☃\u202e", "e\u0301"), ("\u200b", "é")]),
    ("control.csv", (HEADER + "\x1b[31m,\x07,1,4\nu\x00,u,1,4\n").encode(), [("\x1b[31m", "\x07"), ("u\x00", "u")]),
    ("spaces.csv", (HEADER + " u,u ,1,4\nu,u,1,4\n").encode(), [(" u", "u "), ("u", "u")]),
    ("quoted.csv", (HEADER + '"a,b","c""d",1,4\n"x\ny",z,1,4\n').encode(), [("a,b", 'c"d'), ("x\ny", "z")]),
    ("limits.parquet",
     parquet(user_id=pa.array([2**64 - 1], pa.uint64()), item_id=[-(2**63)], timestamp=[1], rating=[1]),
     [(f"{2**64 - 1}", f"{-(2**63)}")]),
    ("a.jsonl", (JSON.strip() + "\r\n" + JSON).encode(), [("u", "a"), ("u", "a")]),
    ("a.txt", b"u1 i1\ti2\r\n\n\nu2 \x1bq", [*PAIR, ("u2", "\x1bq")]),
]  # fmt: skip

# an item table beside good interactions
ITEM_TABLES: list[Case] = [
    ("t.csv", b"", ("t.csv must begin with a line that names its columns",)),
    ("t.csv", b"id,title\ni1,One\n", ("has no column 'item_id'; it has 'id', 'title'", "rename the column")),
    ("t.csv", b"item_id,title\ni1,One\ni1,Two\n", ("row 2: column 'item_id' must not have a value twice, got 'i1'",)),
    ("t.csv", b"item_id,title,title\ni1,One,Two\n", ("must differ, got ['title'] more than once",)),
    ("t.csv", b"item_id,user_id\ni1,u1\n", ("may not have a column 'user_id', which is genrec's own; rename it",)),
    ("t.csv", b"item_id,item_key\ni1,u1\n", ("may not have a column 'item_key'",)),
    ("t.csv", b"item_id,title\ni1\n", ("Expected 2 columns, got 1",)),
    ("t.txt", b"item_id\ni1\n", ("t.txt: the items of 'interactions' must end in one of .csv", "rename the file")),
    ("t.parquet", b"PAR1", ("t.parquet cannot be read",)),
    ("t.parquet", parquet(item_id=[0.5], title=["One"]), ("column 'item_id' must hold text or integers, got double",)),
    ("t.csv.gz", compressed(b"item_id,title\n")[:9], ("ends before its gzip stream does",)),
]  # fmt: skip

# a value of params.yaml by its dotted name
PARAMS: list[Case] = [
    ("seed", -1, ("seed: input should be greater than or equal to 0, got -1",)),
    ("seed", 2**32, ("seed: input should be less than or equal to 4294967295, got 4294967296",)),
    ("seed", 1.5, ("seed: input should be a valid integer, got 1.5",)),
    ("seed", "x", ("seed: input should be a valid integer, got 'x'",)),
    ("seed", None, ("seed: input should be a valid integer, got None",)),
    ("seed", True, ("seed: input should be a valid integer, got True",)),
    ("fetch_data.name", 7, ("fetch_data.name: input should be a valid string, got 7; put it in quotes",)),
    ("fetch_data.name", "movielens", ("no data set named 'movielens'", "known: ml-100k")),
    ("fetch_data.name", "amazon-2014", ("fetch_data.path is empty", "give a local file or an address")),
    ("fetch_data.columns.rating", None, ("columns.rating: input should be a valid string, got None; write ''",)),
    ("extract_embeddings.path", None, ("extract_embeddings.path: input should be a valid string, got None; write ''",)),
    ("fetch_data.sha256", None, ("fetch_data.sha256: input should be a valid string, got None; write '' for none",)),
    ("train_ranker.item_columns", None, ("item_columns: input should be a valid tuple, got None; write [] for none",)),
    ("fetch_data.synthetic.seed", -1, ("synthetic.seed: input should be greater than or equal to 0, got -1",)),
    ("fetch_data.synthetic.n_users", 0, ("n_users: input should be greater than or equal to 1, got 0",)),
    ("fetch_data.synthetic.n_items", 9, ("n_items: input should be greater than or equal to 10, got 9",)),
    ("fetch_data.synthetic.n_clusters", 10**6, ("fetch_data.synthetic", "lower n_clusters")),
    ("fetch_data.path", "a.csv", ("fetch_data.path must be empty for 'synthetic', got 'a.csv'", "set it to ''")),
    ("fetch_data.sha256", 12345, ("fetch_data.sha256: must be empty or 64 hexadecimal digits, got 12345",)),
    ("fetch_data.sha256", int("1" * 64), ("sha256 must be 1111", "fetch the right file")),
    ("fetch_data.sha256", "g" * 64, ("must be empty or 64 hexadecimal digits, got 'ggg",)),
    ("fetch_data.path", "https://ann:hunter2@host/a.csv", ("fetch_data.path holds a password or", "local path")),
    ("fetch_data.path", "https://host/a.csv?X-Amz-Signature=hunter2", ("fetch_data.path holds a password or a token",)),
    ("fetch_data.items_path", "https://host/a?x=1&access_token=hunter2", ("fetch_data.items_path holds a password",)),
    ("extract_embeddings.text.model", "https://hunter2@host/model", ("text.model holds a password or a token",)),
    ("fetch_data.sha256", "0" * 64, ("sha256 must be 000", "fetch the right file")),
    ("fetch_data.columns", [], ("fetch_data.columns: input should be a dictionary or an instance",)),
    ("prepare_data.min_user_interactions", 2, ("input should be greater than or equal to 3, got 2",)),
    ("prepare_data.ties", "random", ("prepare_data.ties: input should be 'file', 'item' or 'hash', got 'random'",)),
    ("model.code_num", 1, ("model.code_num: input should be greater than or equal to 2, got 1",)),
    ("model.code_num", "8", ("model.code_num: input should be a valid integer, got '8'",)),
    ("model.code_nun", 8, ("unknown key 'model.code_nun'; did you mean 'model.code_num'?",)),
    ("model.num_levels", 0, ("model.num_levels: input should be greater than or equal to 1, got 0",)),
    ("train_sasrec.num_heads", 3, ("train_sasrec.num_heads: must divide embedding_dim=8, got 3",)),
    ("train_sasrec.dropout", 1, ("train_sasrec.dropout: input should be less than 1, got 1",)),
    ("train_sasrec.learning_rate", 0, ("input should be greater than 0, got 0",)),
    ("train_sasrec.learning_rate", float("nan"), ("input should be a finite number, got nan",)),
    ("train_sasrec.learning_rate", float("inf"), ("input should be a finite number, got inf",)),
    ("train_sasrec.learning_rate", "fast", ("train_sasrec.learning_rate: input should be a valid number",)),
    ("train_rqvae.hidden_dims", 8, ("train_rqvae.hidden_dims: input should be a valid tuple, got 8",)),
    ("train_rqvae.hidden_dims", [8, 0], ("train_rqvae.hidden_dims.1: input should be greater than or equal to 1",)),
    ("train_rqvae.validate_every", 99, ("train_rqvae.validate_every: must be at most max_epochs=4, got 99",)),
    ("train_rqvae.gates.min_usage", 1.1, ("input should be less than or equal to 1, got 1.1",)),
    ("build_digits.code_num", 1, ("build_digits.code_num: input should be greater than or equal to 2, got 1",)),
    ("build_digits.word_digits", -1, ("build_digits.word_digits: input should be greater than or equal to 0",)),
    ("train_parallel.num_heads", 3, ("train_parallel.num_heads: must divide embedding_dim=8, got 3",)),
    ("train_parallel.schedule", "linear", ("train_parallel.schedule: input should be 'constant', 'inverse_sqrt'",)),
    ("train_tiger.generator", None, ("train_tiger.generator: input should be a dictionary",)),
    ("train_etegrec.cycle", 3, ("train_etegrec.max_epochs: must be a multiple of cycle=3",)),
    ("evaluate.ks", [], ("evaluate.ks: must be one or more numbers, strictly ascending",)),
    ("evaluate.ks", [5, 3], ("evaluate.ks: must be one or more numbers, strictly ascending, got",)),
    ("evaluate.n_beams", 4, ("evaluate.n_beams: must be at least 5, the last of evaluate.ks, got 4",)),
    ("track.experiment", "", ("track.experiment: string should match pattern",)),
    ("track.enabled", "yes", ("track.enabled: input should be a valid boolean, got 'yes'",)),
    ("trainer.precision", "16-mixed", ("trainer.precision: input should be 'auto', '32-true' or 'bf16-mixed'",)),
]  # fmt: skip

# all of params.yaml
PARAMS_FILES: list[Case] = [
    ("nothing", b"", ("params.yaml must hold sections such as 'model:', got None",)),
    ("a list", b"- seed\n", ("must hold sections such as 'model:'",)),
    ("text", b"seed", ("must hold sections such as 'model:', got 'seed'",)),
    ("not YAML", b"seed: [1\n", ("params.yaml is not valid YAML",)),
    ("a tab", b"model:\n\tcode_num: 8\n", ("params.yaml is not valid YAML", "line 2")),
    ("a key twice", b"seed: 1\nseed: 2\n", ("params.yaml is not valid YAML: key 'seed' stands there twice", "line 1")),
    ("not UTF-8", b"seed: \xff\n", ("params.yaml is not valid YAML",)),
    ("an object", b"seed: !!python/object/apply:os.system ['touch stolen']\n", ("is not valid YAML", "python/object")),
    ("a name", b"seed: !!python/name:os.system\n", ("is not valid YAML", "python/name")),
    ("brackets", b"seed: " + b"[" * 3000 + b"]" * 3000, ("params.yaml",)),
    ("month 13", b"seed: 2020-13-01\n", ("params.yaml holds a value that cannot be read (month must be in 1..12)",)),
    ("an unknown section", b"sed: 1\n", ("unknown key 'sed'; did you mean 'seed'?", "key 'seed' is missing")),
]

# fetch_data of a data set whose file the user gives; the word `good` stands for a good file
FETCHES: list[Case] = [
    (
        "a folder",
        {"path": "data"},
        ("data/prepared/kept: the interactions of 'interactions' must end in", "; rename the file"),
    ),
    ("no file", {"path": "no.csv"}, ("fetch_data.path: no.csv not found", "give a file")),
    ("a zero byte", {"path": "a\0b.csv"}, ("'a\\x00b.csv' holds a control character", "give a file")),
    ("nobody's home", {"path": "~nobody-at-all/a.csv"}, ("no user of this machine", "mend it")),
    ("another ending", {"path": "good.xlsx"}, ("must end in one of .csv", "rename the file")),
    ("our own name", {"path": "source.json"}, ("not be source.json", "rename one")),
    ("one name twice", {"path": "good.csv", "items_path": "good.csv"}, ("must differ in their names", "rename one")),
    ("no item table", {"path": "good.csv", "items_path": "no.csv"}, ("fetch_data.items_path: no.csv not found",)),
    ("another sum", {"path": "good.csv", "sha256": "ab" * 32}, ("good.csv: sha256 must be abab", "fetch the right")),
    ("no user column", {"path": "good.csv", "columns": {"user": ""}}, ("fetch_data.columns must name a user and an",)),
    ("equal columns", {"path": "good.csv", "columns": {"user": "item_id"}}, ("must name different columns",)),
    ("no such column", {"path": "good.csv", "columns": {"time": "when"}}, ("has no column 'when'",)),
    ("nobody listens", {"path": "http://127.0.0.1:9/a.csv"}, ("could not be downloaded", "give a local file")),
    ("no address", {"path": "http://[::1/a.csv"}, ("is no address", "give the path or the address")),
    ("no port", {"path": "http://127.0.0.1:port/a.csv"}, ("could not be downloaded", "check the address")),
    ("no name", {"path": "http://127.0.0.1:9/"}, ("names no file",)),
    ("a page of memory", {"path": "/proc/self/mem", "name": "sequences"}, ("/proc/self/mem cannot be read",)),
    ("an archive", {"path": "good.csv", "name": "ml-100k"}, ("good.csv is not a zip archive", "give a folder or")),
    ("no archive", {"path": "no.zip", "name": "ml-100k"}, ("no.zip not found; give a folder or an archive",)),
]

# Files of the pipeline, as another program, another catalogue or other parameters would have left them. The catalogue
# has 9 items, embeddings of 4 dimensions, 2 levels of 4 codes. (stage, file, content or a change of it)
CODES = np.array([[-1, -1, -1], *([n // 3, n % 3, 0] for n in range(9))], np.int32)
VECTORS = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)


def changed(array: Any, place: Any, value: Any) -> bytes:
    copy = array.copy()
    copy[place] = value
    return npy(copy)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


HISTORY = {
    "items": np.arange(1, 10, dtype=np.int32), "offsets": np.array([0, 5, 9]), "tied": np.zeros(9, bool), "n_items": 9,
}  # fmt: skip
TABLE, EMBEDDINGS, HISTORIES = "data/code_table.npy", "data/item_embeddings.npy", "data/prepared/histories.npz"
RQVAE, TIGER = "data/models/rqvae.ckpt", "data/models/tiger.ckpt"
TRANSITIONS = "data/transitions.npz"
SASREC, ETEGREC = "data/models/sasrec.ckpt", "data/models/etegrec.ckpt"
PARALLEL, DIGITS = "data/models/parallel.ckpt", "data/digits.npy"
TWO_TOWER, RANKER = "data/models/two_tower.ckpt", "data/models/rankers/two_tower.ckpt"
CANDIDATES = "data/candidates/two_tower_test.parquet"
Content = bytes | Callable[[bytes], bytes] | str | None
FILES: list[tuple[str, str, Content, tuple[str, ...]]] = [
    ("train_tiger", TABLE, None, ("data/code_table.npy not found", "run `dvc repro`")),
    ("train_tiger", TABLE, b"", ("data/code_table.npy is no sound file", "delete it and run `dvc repro`")),
    ("train_tiger", TABLE, cut, ("is no sound file of numpy arrays",)),
    ("train_tiger", TABLE, npy(np.array([{}]), allow_pickle=True), ("is no sound file of numpy arrays",)),
    ("train_tiger", TABLE, npz(a=CODES), ("must hold one array of integers, got several arrays",)),
    ("train_tiger", TABLE, npy(CODES.astype(float)), ("must hold one array of integers, got float64",)),
    ("train_tiger", TABLE, npy(CODES[:-1]), ("each of the 9 items, got shape (9, 3)", "build it again")),
    ("train_tiger", TABLE, npy(CODES[1:]), ("each of the 9 items, got shape (9, 3)",)),
    ("train_tiger", TABLE, npy(CODES[:, 0]), ("got shape (10,)",)),
    ("train_tiger", TABLE, npy(CODES[:, :2]), ("2 columns of codes (model.num_levels)", "got 2 in all")),
    ("train_tiger", TABLE, npy(CODES[::-1]), ("must hold -1 in row 0 and codes 0..3 (model.code_num)",)),
    ("train_tiger", TABLE, changed(CODES, (3, 1), 4), ("codes 0..3 (model.code_num)",)),
    ("train_tiger", TABLE, changed(CODES, (3, 1), -1), ("codes 0..3",)),
    ("train_tiger", TABLE, changed(CODES, 3, CODES[4]), ("gives two items the same semantic ID",)),
    ("build_digits", EMBEDDINGS, None, ("data/item_embeddings.npy not found",)),
    ("build_digits", EMBEDDINGS, npy(np.ones((10, 5))), ("got 4 digits of 5 dimensions; choose another number",)),
    ("train_parallel", DIGITS, None, ("data/digits.npy not found",)),
    ("train_parallel", DIGITS, cut, ("is no sound file of numpy arrays", "delete it and run `dvc repro`")),
    ("train_parallel", DIGITS, npz(a=CODES), ("must hold one array of integers, got several arrays",)),
    ("train_parallel", DIGITS, npy(CODES.astype(float)), ("must hold one array of integers, got float64",)),
    ("train_parallel", DIGITS, npy(CODES[:-1]), ("each of the 9 items, got shape (9, 3)", "build it again")),
    ("train_parallel", DIGITS, npy(CODES[:, :0]), ("got shape (10, 0)",)),
    ("train_parallel", DIGITS, npy(CODES[::-1]), ("must hold -1 in row 0 and codes 0..7 (build_digits.code_num)",)),
    ("train_parallel", DIGITS, changed(CODES, (3, 1), 8), ("codes 0..7 (build_digits.code_num)",)),
    ("evaluate_parallel", PARALLEL, cut, ("is not a checkpoint of Parallel",)),
    ("evaluate_parallel", PARALLEL, "data/models/other_parallel.ckpt", ("trained with n_items=8", "train it again")),
    ("generate_candidates", PARALLEL, "data/models/other_parallel.ckpt", ("parallel.ckpt was trained with n_items=8",)),
    ("train_rqvae", EMBEDDINGS, None, ("data/item_embeddings.npy not found",)),
    ("train_rqvae", EMBEDDINGS, cut, ("is no sound file of numpy arrays", "numpy.save")),
    ("train_rqvae", EMBEDDINGS, changed(VECTORS, (3, 1), np.nan), ("1 rows hold NaN or infinity, the first is row 3",)),
    ("train_rqvae", EMBEDDINGS, changed(VECTORS, (2, 1), np.inf), ("the first is row 2", "make the embeddings again")),
    ("train_rqvae", EMBEDDINGS, npy(VECTORS.astype(float) * 1e300), ("9 rows hold NaN or infinity",)),
    ("train_rqvae", EMBEDDINGS, npy(VECTORS[0]), ("got shape (4,)", "row item_id is that item's vector")),
    ("train_rqvae", EMBEDDINGS, npy(VECTORS[:1]), ("got shape (1, 4)",)),
    ("train_rqvae", EMBEDDINGS, npy(VECTORS[:, :0]), ("got shape (10, 0)",)),
    ("train_rqvae", EMBEDDINGS, npy(VECTORS.astype(str)), ("must hold numbers, got <U",)),
    ("train_rqvae", EMBEDDINGS, npy(VECTORS.astype(complex)), ("must hold numbers, got complex128",)),
    ("train_rqvae", EMBEDDINGS, npz(a=VECTORS), ("must hold one array, got several",)),
    ("train_rqvae", EMBEDDINGS, npy(np.ones((66, 4))), ("65 items are more than the 64 semantic IDs", "raise one")),
    ("train_etegrec", EMBEDDINGS, npy(VECTORS[:-1]), ("each of the 9 items, got shape (9, 4)",)),
    ("train_etegrec", EMBEDDINGS, npy(np.ones((10, 5))), ("rqvae.ckpt was trained with input_dim=4, but", "=5; train")),
    ("build_code_table", EMBEDDINGS, npy(np.ones((10, 5))), ("rqvae.ckpt was trained with input_dim=4",)),
    ("build_code_table", EMBEDDINGS, npy(np.ones((10, 4))), ("9 items share the same 2 codes", "raise model.code_num")),
    ("build_code_table", RQVAE, None, ("data/models/rqvae.ckpt not found",)),
    ("build_code_table", RQVAE, cut, ("is not a checkpoint of RqVae (no zip file, or cut short); train it again",)),
    ("build_code_table", RQVAE, TIGER, ("rqvae.ckpt is not a checkpoint of RqVae", "train it again")),
    ("build_code_table", RQVAE, dangerous_checkpoint(), ("is not a checkpoint of RqVae", "train it again")),
    ("evaluate_tiger", TIGER, dangerous_checkpoint(), ("is not a checkpoint of Tiger",)),
    ("evaluate_tiger", TIGER, pickle.dumps(Dangerous()), ("no zip file, or cut short",)),
    ("train_tiger", TABLE, pickle.dumps(Dangerous()), ("is no sound file of numpy arrays",)),
    ("train_tiger", TABLE, npy(np.array([Dangerous()]), allow_pickle=True), ("is no sound file of numpy arrays",)),
    ("evaluate_baselines", HISTORIES, npz(items=np.array([Dangerous()])), ("is no sound file of numpy arrays",)),
    ("build_code_table", RQVAE, "data/models/other_rqvae.ckpt", ("trained with num_embeddings=8, but its",)),
    ("extract_embeddings", SASREC, "data/models/other_sasrec.ckpt", ("trained with n_items=8, but its data have",)),
    ("extract_embeddings", SASREC, RQVAE, ("is not a checkpoint of SASRec",)),
    ("evaluate_sasrec", SASREC, b"PK", ("is not a checkpoint of SASRec",)),
    ("evaluate_sasrec", SASREC, "data/models/other_sasrec.ckpt", ("trained with n_items=8",)),
    ("evaluate_tiger", TIGER, cut, ("is not a checkpoint of Tiger",)),
    ("evaluate_tiger", TIGER, "data/models/other_tiger.ckpt", ("trained with n_items=8", "train it again")),
    ("evaluate_etegrec", ETEGREC, TIGER, ("is not a checkpoint of ETEGRec",)),
    ("evaluate_two_tower", TWO_TOWER, "data/models/other_two_tower.ckpt", ("trained with n_items=8", "train it again")),
    ("generate_candidates", TIGER, "data/models/other_tiger.ckpt", ("tiger.ckpt was trained with n_items=8",)),
    ("generate_candidates", ETEGREC, "data/models/other_etegrec.ckpt", ("etegrec.ckpt was trained with n_items=8",)),
    ("generate_candidates", TWO_TOWER, "data/models/other_two_tower.ckpt", ("two_tower.ckpt was trained with",)),
    ("train_ranker", SASREC, "data/models/other_sasrec.ckpt", ("sasrec.ckpt was trained with n_items=8",)),
    ("train_ranker", "data/prepared/interactions.parquet", parquet(item_id=[1]), ("has 1 rows, but", "npz 9; run")),
    ("train_ranker", "data/prepared/items.parquet", parquet(item_id=[1]), ("the item table has 1 rows, but the code",)),
    ("evaluate_ranker", SASREC, "data/models/other_sasrec.ckpt", ("sasrec.ckpt was trained with n_items=8",)),
    ("evaluate_ranker", RANKER, "data/models/rankers/other.ckpt", ("two_tower.ckpt was trained with n_items=8",)),
    ("evaluate_ranker", CANDIDATES, "data/candidates/other.parquet", ("has item_id 10, but the data end at 9; run",)),
    ("evaluate_baselines", HISTORIES, None, ("histories.npz not found",)),
    ("evaluate_baselines", TRANSITIONS, None, ("transitions.npz not found",)),
    ("evaluate_baselines", TRANSITIONS, cut, ("is no sound file of numpy arrays",)),
    ("evaluate_baselines", TRANSITIONS, npz(starts=np.zeros(3)), ("is not what count_transitions writes", "repro -f")),
    ("evaluate_baselines", HISTORIES, cut, ("is no sound file of numpy arrays",)),
    ("evaluate_baselines", HISTORIES, b"", ("is no sound file of numpy arrays",)),
    ("evaluate_baselines", HISTORIES, npz(items=HISTORY["items"]), ("must hold items, offsets, tied and n_items",)),
    ("evaluate_baselines", HISTORIES, npz(**HISTORY | {"n_items": 8}), ("items must be item_ids 1..8",)),
    ("evaluate_baselines", HISTORIES, npz(**HISTORY | {"offsets": np.array([0, 5])}), ("offsets must rise from 0",)),
    ("evaluate_baselines", HISTORIES, npz(**HISTORY | {"items": np.arange(9)}), ("items must be item_ids 1..9",)),
    ("evaluate_baselines", HISTORIES, npz(**HISTORY | {"tied": np.ones(9, bool)}), ("tied must say of each item",)),
    ("prepare_data", "data/raw/source.json", None, ("source.json not found", "run `dvc repro fetch_data` first")),
    ("prepare_data", "data/raw/source.json", b"{", ("source.json is not what fetch_data writes", "fetch_data`")),
    ("prepare_data", "data/raw/source.json", b'{"dataset": 1}', ("is not what fetch_data writes",)),
    ("prepare_data", "data/raw/good.csv", None, ("good.csv not found, though source.json names it", "fetch_data`")),
]  # fmt: skip

# a user's own embeddings: the file's name, its bytes
GIVEN_EMBEDDINGS: list[Case] = [
    ("none.npy", None, ("no file of item embeddings 'none.npy'", "give the path of a .npy or .parquet file")),
    ("e.txt", b"1 2 3", ("must end in .npy or .parquet, got 'e.txt'",)),
    ("e.npy", b"1 2 3", ("e.npy is no sound file of numpy arrays", "write it with numpy.save")),
    ("e.npy", npy(VECTORS[1:]), ("one for each of the 9 items, got shape (9, 4)",)),
    ("e.npy", changed(VECTORS, (9, 0), np.nan), ("the first is row 9",)),
    ("e.npy", npy(np.array([{}]), allow_pickle=True), ("is no sound file of numpy arrays",)),
    ("e.parquet", b"1 2 3", ("e.parquet cannot be read",)),
    ("e.parquet", parquet(item=["i1"], u=[1.0]), ("must have a column item_key, got item, u",)),
    ("e.parquet", parquet(item_key=["k1", "k1"], u=[1.0, 2.0]), ("one row for each item_key, but 'k1' has two",)),
    ("e.parquet", parquet(item_key=["k1"], u=[1.0]), ("lacks 8 of the 9 items, such as item_key",)),
    ("e.parquet", parquet(item_key=[f"k{n}" for n in range(1, 10)], u=["x"] * 9), ("must hold numbers",)),
    ("e.parquet", parquet(item_key=[f"k{n}" for n in range(1, 10)], u=[np.nan] * 9), ("lacks 9 of the 9 items",)),
]
