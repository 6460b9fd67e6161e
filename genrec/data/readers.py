"""data/raw/ to frames, every value checked: one of all interactions, and the tables of items and of users.

Keys are text, whatever they look like: "007" and "7" are two users.
"""

import sys
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genrec.data.formats import any_key, read_column_batches, read_columns, read_table
from genrec.data.manifest import Layout, Manifest, RawFile, parts_of
from genrec.errors import UserError

# Our own columns: a table may not bring others of these names.
RESERVED = ("user_id", "user_key", "item_id", "item_key")
# How many of a unit make a second.
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
ABBREVIATIONS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
# The year 5138 in seconds and, in milliseconds, 1973: numbers from here on are in a finer unit.
SECONDS_LIMIT = 10**11
# What a column of no values is.
NO_TYPE = "null[pyarrow]"
# Above this share of items without a row, more is wrong with a table than a few gaps.
LARGE_SHARE = 0.1
# The unit of times, the least and the first that is too large.
TimeLimits = tuple[str, int, int]
# The whole units and the first nine digits after the point.
DIGITS = r"^\s*\+?([0-9]{1,19})(?:\.([0-9]{0,9})[0-9]*)?\s*$"


def read_interactions(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """All interactions, a row each, in the file's order.

    Returns:
        user_key str, item_key str; where the source has them time int64 in whole unix seconds, nanosecond int64 within
        that second (only if not all are 0), and rating float32.

    Raises:
        UserError: the file cannot be read, lacks a column, or holds a value that breaks a rule.
    """
    layout, file = manifest.interactions.layout, folder / manifest.interactions.name
    parts = [(part, _dated(read_columns(part, layout), part, layout)) for part in parts_of(file)]
    if not sum(len(read) for _, read in parts):
        raise UserError(f"{file} holds no interactions; give another file as fetch_data.path")
    limits = _time_limits((read["time"] for _, read in parts), layout) if "time" in layout.columns else None
    frame = _together([_checked(read, part, layout, limits) for part, read in parts], file)
    return frame if "nanosecond" not in frame or frame["nanosecond"].any() else frame.drop(columns="nanosecond")


def interaction_batches(folder: Path, manifest: Manifest) -> Iterator[pd.DataFrame]:
    """As `read_interactions`, some rows at a time, which are refused alike; nanosecond is there wherever time is."""
    layout, parts = manifest.interactions.layout, parts_of(folder / manifest.interactions.name)
    limits = None
    if "time" in layout.columns:
        # only of an unknown unit are the times read twice
        times = (read["time"] for part in parts for read in read_column_batches(part, _only_time(layout)))
        limits = _time_limits(times, layout)
    for part in parts:
        for read in read_column_batches(part, layout):
            if len(read):
                yield _checked(_dated(read, part, layout), part, layout, limits)


def _only_time(layout: Layout) -> Layout:
    return replace(layout, columns={"time": layout.columns["time"]})


def _dated(read: pd.DataFrame, file: Path, layout: Layout) -> pd.DataFrame:
    """Times that are written as dates as datetime64 in UTC."""
    if layout.time_unit != "dates":
        return read
    times = pd.to_datetime(read["time"], format="ISO8601", utc=True, errors="coerce")
    rule = f"column {_theirs(layout, 'time')!r} must hold dates such as 2014-05-31 or 2014-05-31T20:15:00Z"
    _refuse(times.isna().to_numpy(bool), read["time"], file, rule, "mend or drop the row")
    return read.assign(time=times.dt.tz_localize(None))


def _checked(read: pd.DataFrame, file: Path, layout: Layout, limits: TimeLimits | None) -> pd.DataFrame:
    """A part's columns as numbers and keys."""
    columns: dict[str, Any] = {key: _keys(read[key], file, _theirs(layout, key)) for key in ("user_key", "item_key")}
    if limits is not None:
        columns["time"], columns["nanosecond"] = _times(read["time"], file, layout, limits)
    if "rating" in read:
        columns["rating"] = _ratings(read["rating"], file, layout)
    return pd.DataFrame(columns)


def read_items(folder: Path, manifest: Manifest, wanted: Iterable[str]) -> pd.DataFrame:
    """The rows of the item table whose key is wanted, in the file's order.

    Returns:
        item_key str and the source's own columns; no row and no other column where the source has no such table.

    Raises:
        UserError: the file cannot be read, lacks its key, or has an item twice.
    """
    return _read_table(folder, manifest.items, "item_key", frozenset(wanted))


def read_users(folder: Path, manifest: Manifest, wanted: Iterable[str]) -> pd.DataFrame:
    """As `read_items`, with user_key."""
    return _read_table(folder, manifest.users, "user_key", frozenset(wanted))


def _read_table(folder: Path, raw: RawFile | None, key: str, wanted: frozenset[str]) -> pd.DataFrame:
    if raw is None:
        return pd.DataFrame({key: pd.Series([], dtype="str")})
    file = folder / raw.name
    table = _together([read_table(part, raw.layout, wanted) for part in parts_of(file)], file)
    if raw.layout.format == "json_lines":
        table = table.drop_duplicates(key)  # of an item's several lines the first counts, in whichever part
    taken = [name for name in table.columns if name in RESERVED]
    taken.remove(key)
    if taken:
        raise UserError(f"{file}: a table may not have a column {taken[0]!r}, which is genrec's own; rename it")
    rule = f"column {_theirs(raw.layout, key)!r} must not have a value twice"
    _refuse(table[key].duplicated().to_numpy(bool), table[key], file, rule, "keep one row")
    return table[table[key].isin(wanted)].reset_index(drop=True)


def _together(tables: list[pd.DataFrame], file: Path) -> pd.DataFrame:
    """The rows of all parts; a column that a part lacks, or of which it knows nothing, is missing there."""
    if len(tables) == 1:
        return tables[0]
    for name in dict.fromkeys(name for table in tables for name in table):
        kinds = {str(table[name].dtype) for table in tables if name in table} - {NO_TYPE}
        if len(kinds) > 1:
            raise UserError(f"{file}: the parts must hold one type of column {name!r}, got {sorted(kinds)}; convert it")
        if kinds:
            tables = [table.drop(columns=name) if _is_unknown(table, name) else table for table in tables]
    return pd.concat(tables, ignore_index=True)


def _is_unknown(table: pd.DataFrame, name: Hashable) -> bool:
    return name in table and str(table[name].dtype) == NO_TYPE


def check_fits(folder: Path, raw: RawFile | None, numbered: pd.DataFrame, table: pd.DataFrame) -> None:
    """Refuse a table that has a row for none of what is prepared; warn when it lacks more than a tenth.

    Args:
        numbered: an id and a key, as `prepare` gives them.
        table: what was read of the raw table.

    Raises:
        UserError: no key is in both.
    """
    if raw is None:
        return
    file, key = folder / raw.name, numbered.columns[1]
    noun, without = key.removesuffix("_key") + "s", numbered.loc[~numbered[key].isin(table[key]), key]
    if len(without) == len(numbered):
        other = next(filter(None, (any_key(part, raw.layout) for part in parts_of(file))), None)
        theirs = "the table has no row" if other is None else f"the table has such as {other!r}"
        raise UserError(
            f"{file}: none of the {len(numbered):,} {noun} has a row there: the interactions have such as"
            f" {without.iloc[0]!r}, {theirs}; spell them alike, or give the table of the same data set, or none"
        )
    if len(without) > LARGE_SHARE * len(numbered):
        sys.stderr.write(
            f"warning: {file} has no row for {len(without):,} of the {len(numbered):,} {noun}, such as"
            f" {without.iloc[0]!r}; what it tells of the others is unknown for these\n"
        )


def _theirs(layout: Layout, ours: str) -> str:
    """The file's name of a column of ours."""
    return layout.columns.get(ours, ours)


def _keys(column: pd.Series, file: Path, name: str) -> pd.Series:
    empty = (column.isna() | (column == "")).to_numpy(bool)
    _refuse(empty, column, file, f"column {name!r} must not be empty", "mend or drop the row")
    return column


def _times(
    column: pd.Series, file: Path, layout: Layout, limits: TimeLimits
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Whole seconds, and the nanoseconds beyond them."""
    numbers, (unit, low, high) = _numbers(column), limits
    is_time = _is_time(column)
    if is_time:
        unit, low, high = ABBREVIATIONS[np.datetime_data(str(column.dtype))[0]], 0, 2**63
    # Written so that NaN is refused too. A 0 often stands for an unknown time, whatever the unit.
    bad = ~((numbers >= low) & (numbers < high) | (numbers == 0))
    rule = f"column {_theirs(layout, 'time')!r} must hold {'times' if is_time else unit} since 1970"
    way_out = (
        "mend or drop the row, convert dates to seconds, or set fetch_data.columns.time to '' for the file's order"
    )
    _refuse(bad, column, file, rule, way_out)
    whole, billionths = _whole_and_billionths(column, numbers)
    a_second = UNITS[unit]
    return whole // a_second, whole % a_second * (10**9 // a_second) + billionths // a_second


def _time_limits(columns: Iterable[pd.Series], layout: Layout) -> TimeLimits:
    """The unit of times, and from where to where they may lie: two units in one column would be out of order."""
    if layout.time_unit == "dates":
        return "seconds", 0, SECONDS_LIMIT
    if layout.time_unit != "unknown":
        limit = SECONDS_LIMIT * UNITS[layout.time_unit]
        return layout.time_unit, -limit if layout.before_1970 else 0, limit
    n_known, n_below = 0, dict.fromkeys(UNITS, 0)
    for column in columns:
        if _is_time(column):
            continue
        numbers = _numbers(column)
        known = numbers[numbers > 0]
        n_known += len(known)
        for unit, scale in UNITS.items():
            n_below[unit] += int((known < SECONDS_LIMIT * scale).sum())
    unit = next((unit for unit, n in n_below.items() if 2 * n >= n_known), "nanoseconds")
    low = SECONDS_LIMIT * UNITS[unit] // 1000 if unit != "seconds" else 0
    return unit, low, min(SECONDS_LIMIT * UNITS[unit], 2**63)


def _is_time(column: pd.Series) -> bool:
    return pd.api.types.is_datetime64_dtype(column.dtype)


def _whole_and_billionths(column: pd.Series, numbers: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Whole units and billionths of one, of texts by their digits: a float tells a fourth of a microsecond at best."""
    if numbers.dtype.kind != "f":  # before NumPy 2.1 `floor` made floats of integers
        whole = numbers.astype(np.int64)
        return whole, np.zeros_like(whole)
    whole = np.floor(numbers).astype(np.int64)
    billionths = ((numbers - whole) * 1e9).astype(np.int64)
    if not pd.api.types.is_numeric_dtype(column):
        digits = column.astype("str").str.extract(DIGITS)
        plain = digits[0].notna().to_numpy()  # others are such as 1.5e9
        whole[plain] = digits.loc[plain, 0].astype("int64")
        billionths[plain] = digits.loc[plain, 1].fillna("").str.pad(9, "right", "0").astype("int64")
    return whole, billionths


def _ratings(column: pd.Series, file: Path, layout: Layout) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        ratings = _numbers(column).astype(np.float32)
    rule = f"column {_theirs(layout, 'rating')!r} must hold finite numbers"
    way_out = "mend or drop the row, or set fetch_data.columns.rating to ''"
    _refuse(~np.isfinite(ratings), column, file, rule, way_out)
    return ratings


def _numbers(column: pd.Series) -> NDArray[Any]:
    """Numbers for texts or numbers, NaN for what is none."""
    if pd.api.types.is_bool_dtype(column):
        return np.full(len(column), np.nan)
    if _is_time(column):
        return column.to_numpy().view(np.int64)  # a missing one is the least of all
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy()
    try:
        return column.astype("int64").to_numpy()  # five times as fast as to_numeric
    except (ValueError, OverflowError, TypeError):
        return pd.to_numeric(column, errors="coerce").to_numpy(np.float64)


def _refuse(bad: NDArray[np.bool_], values: pd.Series, file: Path, rule: str, way_out: str) -> None:
    """Stop at the first row that breaks a rule; rows count from 1, without the header."""
    if bad.any():
        place = int(bad.argmax())
        row = int(values.index[place])  # of a later batch not the place within it
        count = int(bad.sum())
        got = values.iloc[place]
        got = got.item() if isinstance(got, np.generic) else str(got) if isinstance(got, pd.Timestamp) else got
        more = f" and {count - 1:,} more" if count > 1 else ""
        raise UserError(f"{file}, row {row + 1:,}{more}: {rule}, got {got!r}; {way_out}")
