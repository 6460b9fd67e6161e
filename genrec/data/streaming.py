"""Preparation past memory: what `genrec.data.preparation` does over whole arrays, by DuckDB in bounded memory.

The database numbers keys, filters and sorts on disk; what comes out is the same to the byte. Each step is one statement
over `interactions`, a row each, whose `row` is its place in the file.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from genrec.data.preparation import (
    PreparedTables,
    Repeats,
    Ties,
    TimeSplit,
    check_has_times,
    check_one_clock,
    cut_moments,
    key_hashes,
    mixed_hashes,
    nothing_left,
    statistics,
)
from genrec.errors import UserError
from genrec.sequences.histories import Histories, TimeCuts
from genrec.storage.output import parquet_stream

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BATCH_ROWS = 1 << 20
INTEGERS = "-?[0-9]{1,18}"
# The order of keys: by value where all are integers, else by their characters, as `number_keys` has it.
NUMBERED = """
    CREATE TABLE {name}s AS
    SELECT {name}_key, (row_number() OVER (ORDER BY {order}) - 1)::INTEGER AS {name}_code
    FROM (SELECT DISTINCT {name}_key FROM raw)
"""
CODED = """
    CREATE TABLE interactions AS
    SELECT row, user_code, item_code, time, nanosecond, rating
    FROM raw JOIN users USING (user_key) JOIN items USING (item_key)
"""
FIRST_OF_PAIRS = """
    DELETE FROM interactions WHERE row NOT IN (
        SELECT arg_min(row, (time, nanosecond, row)) FROM interactions GROUP BY user_code, item_code
    )
"""
FEW = """
    CREATE OR REPLACE TEMP TABLE few_{name}s AS
    SELECT {name}_code FROM interactions GROUP BY {name}_code HAVING count(*) < ?
"""
WITHOUT_FEW = """
    DELETE FROM interactions WHERE
    user_code IN (SELECT user_code FROM few_users) OR item_code IN (SELECT item_code FROM few_items)
"""
ORDERED = """
    SELECT user_code, item_code, time, nanosecond, rating FROM interactions {hashes}
    ORDER BY user_code, time, nanosecond, {tie} row
"""
HASHES = "JOIN user_hashes USING (user_code) JOIN item_hashes USING (item_code)"
TIES: dict[Ties, tuple[str, str]] = {
    "file": ("", ""),
    "item": ("", "item_code,"),
    "hash": (HASHES, "pair_hash(user_hash, item_hash),"),
}


class InteractionStore:
    """Interactions in a database on disk, from raw ones to ordered ones.

    Args:
        database: connected to a file of its own.
        progress: a bar that is told of each step.
    """

    def __init__(self, database: "DuckDBPyConnection", progress: "tqdm[Any]") -> None:
        self.database = database
        self.progress = progress
        self.read: dict[str, float] = {}

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, memory_gb: float, progress_bar: bool) -> Iterator[Self]:
        """A store within a temporary folder below `folder`, which is removed when the block ends.

        Raises:
            UserError: DuckDB is not installed.
        """
        try:
            import duckdb
        except ImportError:
            raise UserError(
                "prepare_data.engine: stream needs DuckDB; `pip install genrec[stream]`, or set it to memory"
            ) from None
        with TemporaryDirectory(dir=folder) as scratch, tqdm(unit=" rows", disable=not progress_bar) as progress:
            limits: dict[str, Any] = {"memory_limit": f"{memory_gb}GB", "temp_directory": f"{scratch}/spilled"}
            with duckdb.connect(f"{scratch}/interactions.duckdb", config=limits) as database:
                yield cls(database, progress)

    def load(self, batches: Iterable[pd.DataFrame]) -> None:
        """Take interactions as `genrec.data.readers.interaction_batches` gives them, and number their keys.

        Raises:
            UserError: there is none.
        """
        self.progress.set_description("reading")
        n_rows, columns = 0, set[str]()
        self.database.execute(
            "CREATE TABLE raw (row BIGINT, user_key VARCHAR, item_key VARCHAR, time BIGINT, nanosecond BIGINT,"
            " rating FLOAT)"
        )
        for batch in batches:
            columns.update(batch.columns)
            self._append(batch, n_rows)
            n_rows += len(batch)
            self.progress.update(len(batch))
        if not n_rows:
            raise UserError("the file holds no interactions; give another file as fetch_data.path")
        self.has_time, self.has_rating = "time" in columns, "rating" in columns
        for name in ("user", "item"):
            self._number(name)
        self._run("numbering", CODED)
        self._run("numbering", "DROP TABLE raw")
        self.read = {"rows_read": n_rows, "users_read": self._count("users"), "items_read": self._count("items")}

    def _append(self, batch: pd.DataFrame, first: int) -> None:
        rows = np.arange(first, first + len(batch))
        columns = {
            "row": rows,
            "user_key": batch["user_key"],
            "item_key": batch["item_key"],
            "time": batch.get("time", rows),  # the position in the file where the source has none
            "nanosecond": batch.get("nanosecond", np.zeros(len(batch), np.int64)),
            "rating": batch.get("rating", np.full(len(batch), np.nan, np.float32)),
        }
        table = pa.table({name: pa.array(value) for name, value in columns.items()})
        self.database.register("batch", table)
        self.database.execute("INSERT INTO raw SELECT * FROM batch")
        self.database.unregister("batch")

    def _number(self, name: str) -> None:
        (is_number,) = self._row(f"SELECT bool_and(regexp_full_match({name}_key, '{INTEGERS}')) FROM raw")
        order = f"{name}_key::BIGINT, {name}_key" if is_number else f"{name}_key"
        self._run("numbering", NUMBERED.format(name=name, order=order))

    def keys(self, name: str) -> pd.Series:
        """All keys that were read of `user` or `item`, in the order of their codes."""
        keys = self.database.sql(f"SELECT {name}_key FROM {name}s ORDER BY {name}_code").fetchnumpy()[f"{name}_key"]
        return pd.Series(keys, dtype="str")

    def filter(self, min_user_interactions: int, min_item_interactions: int, repeats: Repeats) -> None:
        """Drop repeats, then leave the largest part in which every user and every item has enough interactions.

        Raises:
            UserError: nothing is left.
        """
        read = self._counts("user"), self._counts("item")
        if repeats == "drop":
            self._run("dropping repeats", FIRST_OF_PAIRS)
        self.repeats_dropped = int(self.read["rows_read"]) - self._count("interactions")
        while True:
            self._run("filtering", FEW.format(name="user"), [min_user_interactions])
            self._run("filtering", FEW.format(name="item"), [min_item_interactions])
            if not self._count("few_users") and not self._count("few_items"):
                break
            self._run("filtering", WITHOUT_FEW)
        if not self._count("interactions"):
            raise UserError(nothing_left(*read, min_user_interactions, min_item_interactions))

    def write(self, ties: Ties, file: Path, split: TimeSplit | None = None) -> PreparedTables:
        """Write the interactions in their order, as `write_parquet` writes those of `prepare`.

        Args:
            ties: what decides between equal times of a user.
            split: None for leave-one-out.

        Raises:
            UserError: the split in time leaves nothing to learn from or to test.
        """
        moments = self._moments(split)
        user_ids, users = self._kept("user")
        item_ids, items = self._kept("item")
        counts = self._counts("user")
        offsets = np.concatenate([[0], np.cumsum(counts[counts > 0])])
        history, tied = np.empty(offsets[-1], np.int32), np.zeros(offsets[-1], bool)
        kinds = {"user_id": pa.int32(), "item_id": pa.int32(), "time": pa.int64(), "rating": pa.float32()}
        if not self.has_rating:
            del kinds["rating"]
        n_before = np.zeros((len(moments or ()), len(users)), np.int64)
        first, last = 0, (-1, -1, -1)
        with parquet_stream(pa.schema(list(kinds.items())), file) as append:
            for batch in self._ordered(ties):
                columns = {
                    name: batch[name].to_numpy() for name in ("user_code", "item_code", "time", "nanosecond", "rating")
                }
                place = slice(first, first + len(batch))
                history[place] = item_ids[columns["item_code"]]
                tied[place], last = _ties(columns, last)
                first = place.stop
                for row, moment in zip(n_before, moments or (), strict=True):
                    of_users = user_ids[columns["user_code"][columns["time"] < moment]]
                    row += np.bincount(of_users, minlength=len(users) + 1)[1:]
                ours = {"user_id": user_ids[columns["user_code"]], "item_id": history[place], "time": columns["time"]}
                ours["rating"] = columns["rating"]
                append(pa.table({name: pa.array(ours[name], kind) for name, kind in kinds.items()}))
        cuts = None
        if split is not None:
            cuts = TimeCuts(offsets[:-1] + n_before[0], offsets[:-1] + n_before[1], split.all_targets)
        histories = Histories(history, offsets, len(items), tied, cuts)
        figures = {**self.read, "repeats_dropped": self.repeats_dropped, **statistics(histories, moments)}
        return PreparedTables(histories, users, items, figures)

    def _moments(self, split: TimeSplit | None) -> tuple[int, int] | None:
        if split is None:
            return None
        check_has_times(self.has_time)
        firsts = "SELECT min(time) AS first FROM interactions GROUP BY user_code"
        some = self.database.sql(f"SELECT DISTINCT first FROM ({firsts}) LIMIT 2").fetchnumpy()["first"]
        check_one_clock(some, int((self._counts("user") > 0).sum()))
        ordered = "SELECT time FROM interactions ORDER BY time LIMIT 1 OFFSET"
        return cut_moments(split, self._count("interactions"), lambda place: int(self._row(f"{ordered} {place}")[0]))

    def _ordered(self, ties: Ties) -> Iterator[pa.RecordBatch]:
        if ties == "hash":
            self._add_hashes()
        hashes, tie = TIES[ties]
        self.progress.set_description("ordering")
        yield from self.database.sql(ORDERED.format(hashes=hashes, tie=tie)).to_arrow_reader(BATCH_ROWS)

    def _add_hashes(self) -> None:
        for name in ("user", "item"):
            keys = self.keys(name)
            hashes = {f"{name}_code": np.arange(len(keys), dtype=np.int32), f"{name}_hash": key_hashes(keys)}
            self.database.register("hashes", pa.table(hashes))
            self.database.execute(f"CREATE TABLE {name}_hashes AS SELECT * FROM hashes")
            self.database.unregister("hashes")
        from duckdb.func import PythonUDFType

        kind, number = PythonUDFType.ARROW, "ubigint"
        self.database.create_function("pair_hash", _pair_hash, [number, number], number, type=kind)

    def _kept(self, name: str) -> tuple[NDArray[np.int32], pd.DataFrame]:
        """The ids of the codes that are left, from 1; and the table of ids and keys."""
        present = self._counts(name) > 0
        ids = np.cumsum(present, dtype=np.int32)
        kept = self.keys(name)[present].reset_index(drop=True)
        return ids, pd.DataFrame({f"{name}_id": ids[present], f"{name}_key": kept})

    def _counts(self, name: str) -> NDArray[np.int64]:
        """int64, the interactions of each code."""
        counted = self.database.sql(f"SELECT {name}_code, count(*) AS n FROM interactions GROUP BY ALL").fetchnumpy()
        counts = np.zeros(self._count(f"{name}s"), np.int64)
        counts[counted[f"{name}_code"]] = counted["n"]
        return counts

    def _run(self, step: str, statement: str, values: list[Any] | None = None) -> None:
        self.progress.set_description(step)
        self.database.execute(statement, values)

    def _row(self, question: str) -> tuple[Any, ...]:
        (row,) = self.database.sql(question).fetchall()
        return tuple(row)

    def _count(self, table: str) -> int:
        return int(self._row(f"SELECT count(*) FROM {table}")[0])


def _pair_hash(of_users: pa.ChunkedArray, of_items: pa.ChunkedArray) -> pa.Array:
    return pa.array(mixed_hashes(of_users.to_numpy(), of_items.to_numpy()))


def _ties(
    columns: dict[str, NDArray[Any]], last: tuple[int, int, int]
) -> tuple[NDArray[np.bool_], tuple[int, int, int]]:
    """bool (n_rows,), whether a row has the user and the moment of the row before; `last` is that before the first."""
    names = ("user_code", "time", "nanosecond")
    tied = np.ones(len(columns["user_code"]), bool)
    for name, before in zip(names, last, strict=True):
        tied[1:] &= columns[name][1:] == columns[name][:-1]
        tied[0] &= columns[name][0] == before
    user, time, nanosecond = (int(columns[name][-1]) for name in names)
    return tied, (user, time, nanosecond)
