"""The formats of raw files: delimited text, parquet, JSON lines and sequences, each to a frame whose keys are text."""

import ast
import csv
import gzip
import io
import json
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from genrec.data.manifest import Format, Layout
from genrec.data.parquet_columns import as_keys, as_text
from genrec.errors import UserError

# A row must fit into a block; reviews and descriptions are long.
BLOCK_BYTES = 16 << 20
# How many rows of other formats are read at once.
BATCH_ROWS = 1 << 20
# Divides the fields of a file whose own separator is longer than Arrow's single character; no text holds it.
UNIT_SEPARATOR = "\x1f"
# Python's own reader takes NaN, Infinity and -Infinity.
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
STRICT_JSON = json.JSONDecoder(parse_constant=lambda name: _refuse_constant(name))


def read_columns(file: Path, layout: Layout) -> pd.DataFrame:
    """The columns that the layout names, under our names, one row an interaction, in the file's order.

    Returns:
        str columns, missing values as NaN; times and ratings may already be numbers, times datetime64 too.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    batches = list(read_column_batches(file, layout))
    return batches[0] if len(batches) == 1 else pd.concat(batches)


def read_column_batches(file: Path, layout: Layout) -> Iterator[pd.DataFrame]:
    """As `read_columns`, some rows at a time: at least one frame, each indexed by its rows' places in the file."""
    first = 0
    with _explained(file, layout):
        for frame in COLUMN_READERS[layout.format](file, layout):
            yield frame.set_index(pd.RangeIndex(first, first + len(frame)))
            first += len(frame)


def read_table(file: Path, layout: Layout, wanted: frozenset[str]) -> pd.DataFrame:
    """All columns, the key under our name, in the file's order.

    Args:
        wanted: the keys of the rows that are needed; others may be left out.

    Raises:
        UserError: the file cannot be read, or lacks its key.
    """
    with _explained(file, layout):
        return TABLE_READERS[layout.format](file, layout, wanted)


def any_key(file: Path, layout: Layout) -> str | None:
    """A key that a table holds, to show how its keys look; None where it holds no row."""
    with _explained(file, layout):
        if layout.format == "json_lines":  # of which only wanted rows are parsed otherwise
            (theirs,) = layout.columns.values()
            return next((_as_text(record.get(theirs)) for record in _records(file, layout)), None)
        frames = COLUMN_READERS[layout.format](file, layout)
        return next((str(frame.iloc[0, 0]) for frame in frames if not frame.empty), None)


@contextmanager
def _explained(file: Path, layout: Layout) -> Iterator[None]:
    """Turn the ways in which bytes can be wrong into one line."""
    again = "fetch it again"
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{file} not found, though source.json names it; run `dvc repro -f fetch_data`") from None
    except EOFError:
        raise UserError(f"{file} ends before its gzip stream does; {again}") from None
    except (gzip.BadGzipFile, zlib.error) as mistake:
        raise UserError(f"{file} is not a sound gzip file ({mistake}); {again}, or drop .gz from its name") from None
    except UnicodeEncodeError as mistake:  # JSON can spell half of a character
        raise UserError(f"{file} holds {mistake.object[:60]!r}, which is no text ({mistake.reason}); mend it") from None
    except UnicodeDecodeError as mistake:
        raise UserError(
            f"{file} must be {layout.encoding} text ({mistake.reason} {mistake.object[mistake.start]:#x});"
            " convert it, or end its name in .gz if it is compressed"
        ) from None
    except csv.Error as mistake:  # of the header
        raise UserError(f"{file} must be text with a line a row ({mistake}); end its lines as others do") from None
    except pa.ArrowException as mistake:
        raise UserError(f"{file} cannot be read: {str(mistake).splitlines()[0]}; mend the file") from None


def _bytes(file: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(file, "rb") if file.name.lower().endswith(".gz") else file.open("rb")


def _lines(file: Path, layout: Layout) -> Iterator[str]:
    """Text lines without their end; a byte order mark is left out."""
    with _bytes(file) as stream:
        for number, line in enumerate(stream):
            text = line.decode(layout.encoding).rstrip("\r\n")
            yield text.removeprefix("\ufeff") if number == 0 else text


def _delimited_columns(file: Path, layout: Layout) -> Iterator[pd.DataFrame]:
    return _delimited(file, layout, list(layout.columns.values()))


def _delimited_table(file: Path, layout: Layout, wanted: frozenset[str]) -> pd.DataFrame:
    return pd.concat(_delimited(file, layout, None), ignore_index=True)


def _delimited(file: Path, layout: Layout, only: list[str] | None) -> Iterator[pd.DataFrame]:
    names = list(layout.names) or _header(file, layout)
    _check_names(file, layout, names)
    # Quotes mean something in comma-separated files alone: a tab-separated title may hold one.
    quote: str | bool = '"' if layout.separator == "," else False
    with _bytes(file) as stream:
        source, separator = _with_short_separator(stream, layout)
        reader = pa.csv.open_csv(
            source,
            pa.csv.ReadOptions(
                column_names=names,
                skip_rows=0 if layout.names else 1,
                encoding=layout.encoding,
                block_size=BLOCK_BYTES,
                use_threads=False,  # with threads its errors do not name the row
            ),
            pa.csv.ParseOptions(delimiter=separator, quote_char=quote, newlines_in_values=bool(quote)),
            # All as text, also "NA" and "": 007 and NULL are good keys.
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), include_columns=only, strings_can_be_null=False
            ),
        )
        yield _renamed(reader.schema.empty_table().to_pandas(), layout)
        for batch in reader:
            yield _renamed(batch.to_pandas(), layout)


def _with_short_separator(stream: BinaryIO | gzip.GzipFile, layout: Layout) -> tuple[Any, str]:
    """A stream whose fields one character divides, and that character."""
    if len(layout.separator) == 1:
        return stream, layout.separator
    long, short = layout.separator.encode(layout.encoding), UNIT_SEPARATOR.encode(layout.encoding)
    return io.BytesIO(stream.read().replace(long, short)), UNIT_SEPARATOR


def _header(file: Path, layout: Layout) -> list[str]:
    first = next(_lines(file, layout), "")
    if not first:
        raise UserError(f"{file} must begin with a line that names its columns, got nothing; give another file")
    names = next(csv.reader([first])) if layout.separator == "," else first.split(layout.separator)
    return [name.rsplit(":", 1)[0] for name in names] if layout.typed_header else names


def _check_names(file: Path, layout: Layout, names: Sequence[str]) -> None:
    """Each column that the layout names must be there, and no name twice."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{file}: the columns' names must differ, got {repeated} more than once; rename them")
    missing = [name for name in layout.columns.values() if name not in names]
    if missing:
        raise UserError(
            f"{file} has no column {missing[0]!r}; it has {', '.join(map(repr, names))};"
            " set fetch_data.columns (of an item table: rename the column)"
        )


def _renamed(frame: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    return frame.rename(columns={theirs: ours for ours, theirs in layout.columns.items()})


def _parquet_columns(file: Path, layout: Layout) -> Iterator[pd.DataFrame]:
    _check_names(file, layout, pa.parquet.read_schema(file).names)
    with pa.parquet.ParquetFile(file) as stored:
        schema = stored.schema_arrow
        yield _parquet_frame(schema.empty_table(), file, layout)
        for batch in stored.iter_batches(BATCH_ROWS, columns=list(layout.columns.values())):
            yield _parquet_frame(pa.Table.from_batches([batch]), file, layout)


def _parquet_frame(table: pa.Table, file: Path, layout: Layout) -> pd.DataFrame:
    columns = {}
    for ours, theirs in layout.columns.items():
        column = as_keys(table[theirs], theirs, file) if ours.endswith("_key") else _as_numbers(table[theirs])
        columns[ours] = column.to_pandas()
    return pd.DataFrame(columns)


def _as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers, times without a zone (in UTC), or what else can be turned to them without loss: text."""
    column = as_text(column)
    if pa.types.is_nested(column.type):  # older versions of NumPy take a list of one number for that number
        return pa.chunked_array([pa.array([str(value) for value in column.to_pylist()], pa.string())])
    if pa.types.is_decimal(column.type):
        return column.cast(pa.string())
    if pa.types.is_date32(column.type):
        return column.cast(pa.timestamp("s"))
    if pa.types.is_date64(column.type):
        return column.cast(pa.timestamp("ms"))
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp(column.type.unit))
    if pa.types.is_temporal(column.type):
        raise pa.ArrowInvalid(f"a column of {column.type} holds no times since 1970")
    return column


def _parquet_table(file: Path, layout: Layout, wanted: frozenset[str]) -> pd.DataFrame:
    table = pa.parquet.read_table(file)
    _check_names(file, layout, table.column_names)
    (theirs,) = layout.columns.values()
    columns = {name: as_text(table[name]) for name in table.column_names}
    table = pa.table({**columns, theirs: as_keys(table[theirs], theirs, file)})
    # pandas' own integers have no missing value, which an item without a row would need
    return _renamed(table.to_pandas(types_mapper=pd.ArrowDtype), layout)


def _json_columns(file: Path, layout: Layout) -> Iterator[pd.DataFrame]:
    records = _records(file, layout)
    while True:
        values: dict[str, list[str | None]] = {ours: [] for ours in layout.columns}
        targets = [(theirs, values[ours].append) for ours, theirs in layout.columns.items()]
        n_records = 0
        for record in islice(records, BATCH_ROWS):
            n_records += 1
            for theirs, append in targets:
                append(_as_text(record.get(theirs)))
        yield pd.DataFrame(values, dtype="str")
        if n_records < BATCH_ROWS:
            return


def _json_table(file: Path, layout: Layout, wanted: frozenset[str]) -> pd.DataFrame:
    """All values as text, lists and objects as JSON; of an item's several lines, as Amazon has, the first counts."""
    ((ours, theirs),) = layout.columns.items()
    rows: dict[str, dict[str, str | None]] = {}
    for record in _records(file, layout, _is_of_another(theirs, wanted)):
        key = _as_text(record.get(theirs))
        if key in wanted and key not in rows:
            rows[key] = {name: _as_text(value) for name, value in record.items() if name != theirs}
    # in order of their first appearance
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    columns = {name: [row.get(name) for row in rows.values()] for name in names}
    return pd.DataFrame({ours: list(rows), **columns}, dtype="str")


def _is_of_another(key: str, wanted: frozenset[str]) -> Callable[[str], bool]:
    """Whether a line is of none of the wanted items, told without parsing it.

    A category's metadata hold twenty items for each that is wanted, and parsing is nearly all of the time. In doubt,
    when the key stands there twice or is no plain text, the line is not.
    """
    names = (f'"{key}"', f"'{key}'")
    value = re.compile(r"""\s*:\s*("[^"\\]*"|'[^'\\]*')""")

    def is_of_another(line: str) -> bool:
        if sum(map(line.count, names)) != 1:
            return False
        found = value.match(line, max(map(line.find, names)) + len(names[0]))
        return found is not None and found[1][1:-1] not in wanted

    return is_of_another


def _records(
    file: Path, layout: Layout, is_left_out: Callable[[str], bool] = lambda line: False
) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(file, layout), 1):
        if is_left_out(line):
            continue
        record = _record(line)
        if not isinstance(record, dict):
            raise UserError(f"{file}, line {number}: must be a JSON object, got {line[:60]!r}; mend or drop the line")
        if SURROGATE.search(line):  # fails where it is half of a pair, which pandas before 3 lets pass
            json.dumps(record, ensure_ascii=False).encode("utf-8")
        yield record


def _record(line: str) -> Any:
    """What one line says; None where it is neither JSON nor a Python literal."""
    try:
        return STRICT_JSON.decode(line)
    except json.JSONDecodeError:
        pass  # Amazon's older files: {'asin': ...}
    except (ValueError, RecursionError):
        return None  # a number of thousands of digits, NaN; thousands of brackets
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):  # a backslash in a title
            return ast.literal_eval(line)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if type(value) in (int, float):
        return repr(value)  # what JSON writes too, at a fifth of the time
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _sequences(file: Path, layout: Layout) -> Iterator[pd.DataFrame]:
    """Lines of `user item item ...`; empty lines count for nothing."""
    lines: dict[str, int] = {}
    users: list[str] = []
    items: list[str] = []
    lengths: list[int] = []
    for number, line in enumerate(_lines(file, layout), 1):
        user, *history = line.split() or [""]
        if not user:
            continue
        if not history:
            raise UserError(
                f"{file}, line {number}: must hold a user and its items, got {line!r}; mend or drop the line"
            )
        if user in lines:
            raise UserError(f"{file}, line {number}: user {user!r} has line {lines[user]} already; make them one line")
        lines[user] = number
        users.append(user)
        items += history
        lengths.append(len(history))
        if len(items) >= BATCH_ROWS:
            yield _sequence_frame(users, lengths, items)
            users, items, lengths = [], [], []
    yield _sequence_frame(users, lengths, items)


def _sequence_frame(users: list[str], lengths: list[int], items: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"user_key": np.repeat(np.array(users, object), lengths), "item_key": items}, dtype="str")


COLUMN_READERS: dict[Format, Callable[[Path, Layout], Iterator[pd.DataFrame]]] = {
    "delimited": _delimited_columns,
    "parquet": _parquet_columns,
    "json_lines": _json_columns,
    "sequences": _sequences,
}
TABLE_READERS: dict[Format, Callable[[Path, Layout, frozenset[str]], pd.DataFrame]] = {
    "delimited": _delimited_table,
    "parquet": _parquet_table,
    "json_lines": _json_table,
}
