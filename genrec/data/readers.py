"""data/raw/ to frames, every value checked: one of all interactions, and the tables of items and of users.

Keys are text, whatever they look like: "007" and "7" are two users.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genrec.data.formats import read_columns, read_table
from genrec.data.manifest import Layout, Manifest, RawFile
from genrec.errors import UserError

# Our own columns: a table may not bring others of these names.
RESERVED = ("user_id", "user_key", "item_id", "item_key")
# From here on a float no longer tells two neighbouring integers apart.
TIME_LIMIT = 2**53


def read_interactions(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """All interactions, a row each, in the file's order.

    Returns:
        user_key str, item_key str; where the source has them time int64 in unix seconds (fractions are cut off)
        and rating float32.

    Raises:
        UserError: the file can not be read, lacks a column, or holds a value that breaks a rule.
    """
    layout, file = manifest.interactions.layout, folder / manifest.interactions.name
    read = read_columns(file, layout)
    if read.empty:
        raise UserError(f"{file} holds no interactions; give another file as fetch_data.path")
    columns: dict[str, Any] = {key: _keys(read[key], file, _theirs(layout, key)) for key in ("user_key", "item_key")}
    if "time" in read:
        columns["time"] = _times(read["time"], file, layout)
    if "rating" in read:
        columns["rating"] = _ratings(read["rating"], file, layout)
    return pd.DataFrame(columns)


def read_items(folder: Path, manifest: Manifest, wanted: Iterable[str]) -> pd.DataFrame:
    """The rows of the item table whose key is wanted, in the file's order.

    Returns:
        item_key str and the source's own columns; no row and no other column where the source has no such table.

    Raises:
        UserError: the file can not be read, lacks its key, or has an item twice.
    """
    return _read_table(folder, manifest.items, "item_key", frozenset(wanted))


def read_users(folder: Path, manifest: Manifest, wanted: Iterable[str]) -> pd.DataFrame:
    """As `read_items`, with user_key."""
    return _read_table(folder, manifest.users, "user_key", frozenset(wanted))


def _read_table(folder: Path, raw: RawFile | None, key: str, wanted: frozenset[str]) -> pd.DataFrame:
    if raw is None:
        return pd.DataFrame({key: pd.Series([], dtype="str")})
    file = folder / raw.name
    table = read_table(file, raw.layout, wanted)
    taken = [name for name in table.columns if name in RESERVED]
    taken.remove(key)
    if taken:
        raise UserError(f"{file}: a table may not have a column {taken[0]!r}, which is genrec's own; rename it")
    rule = f"column {_theirs(raw.layout, key)!r} must not have a value twice"
    _refuse(table[key].duplicated().to_numpy(bool), table[key], file, rule, "keep one row")
    return table[table[key].isin(wanted)].reset_index(drop=True)


def _theirs(layout: Layout, ours: str) -> str:
    """The file's name of a column of ours."""
    return layout.columns.get(ours, ours)


def _keys(column: pd.Series, file: Path, name: str) -> pd.Series:
    empty = (column.isna() | (column == "")).to_numpy(bool)
    _refuse(empty, column, file, f"column {name!r} must not be empty", "mend or drop the row")
    return column


def _times(column: pd.Series, file: Path, layout: Layout) -> NDArray[np.int64]:
    numbers = _numbers(column)
    name = _theirs(layout, "time")
    # Written so that NaN is refused too.
    bad = ~((numbers >= 0) & (numbers < TIME_LIMIT))
    rule = f"column {name!r} must hold {layout.time_unit} since 1970"
    _refuse(bad, column, file, rule, "mend or drop the row, or set fetch_data.columns.time to '' for the file's order")
    scale = 1000 if layout.time_unit == "milliseconds" else 1
    return numbers.astype(np.int64) // scale


def _ratings(column: pd.Series, file: Path, layout: Layout) -> NDArray[np.float32]:
    numbers = _numbers(column)
    rule = f"column {_theirs(layout, 'rating')!r} must hold finite numbers"
    way_out = "mend or drop the row, or set fetch_data.columns.rating to ''"
    _refuse(~np.isfinite(numbers), column, file, rule, way_out)
    return numbers.astype(np.float32)


def _numbers(column: pd.Series) -> NDArray[Any]:
    """Numbers for texts or numbers, NaN for what is none."""
    if pd.api.types.is_bool_dtype(column):
        return np.full(len(column), np.nan)
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy()
    try:
        return column.astype("int64").to_numpy()  # five times as fast as to_numeric
    except (ValueError, OverflowError, TypeError):
        return pd.to_numeric(column, errors="coerce").to_numpy(np.float64)


def _refuse(bad: NDArray[np.bool_], values: pd.Series, file: Path, rule: str, way_out: str) -> None:
    """Stop at the first row that breaks a rule; rows count from 1, without the header."""
    if bad.any():
        row = int(bad.argmax())
        count = int(bad.sum())
        got = values.iloc[row]
        got = got.item() if isinstance(got, np.generic) else got
        more = f" and {count - 1:,} more" if count > 1 else ""
        raise UserError(f"{file}, row {row + 1:,}{more}: {rule}, got {got!r}; {way_out}")
