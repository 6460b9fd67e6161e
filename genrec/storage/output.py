"""How results reach the disk: folders replaced as a whole, parquet and JSON with the same bytes each time."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec.errors import UserError
from genrec.storage.files import disk_troubles_explained, written

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROW_GROUP = 1 << 20  # rows of a parquet file that are compressed together


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` when the block ends well, and vanishes when it does not.

    At every moment `folder` is the old one, the new one, or absent: never a part of one.

    Raises:
        UserError: the disk is full, or may not be written.
    """
    partial, old = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "old"))
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    with disk_troubles_explained(folder):
        partial.mkdir(parents=True)
        try:
            yield partial
            if folder.exists():
                folder.rename(old)
            partial.rename(folder)
        finally:
            for left in (partial, old):
                shutil.rmtree(left, ignore_errors=True)


def write_parquet(frame: "pd.DataFrame", file: Path) -> None:
    """Write a frame without its index and without the metadata that pandas adds, which names its version."""
    import pyarrow as pa  # here, so that fetch_data starts without it

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    with parquet_stream(table.schema, file) as write:
        write(table)


@contextmanager
def parquet_stream(schema: "pa.Schema", file: Path) -> "Iterator[Callable[[pa.Table], None]]":
    """A function that appends tables to a file, whose bytes do not depend on where one ended and the next began."""
    import pyarrow as pa  # here, so that fetch_data starts without it
    import pyarrow.parquet as pq

    waiting = schema.empty_table()
    with pq.ParquetWriter(file, schema, compression="zstd", version="2.6") as writer:

        def write(table: pa.Table) -> None:
            nonlocal waiting
            waiting = pa.concat_tables([waiting, table])
            n_whole = len(waiting) // ROW_GROUP * ROW_GROUP
            if n_whole:
                append(waiting.slice(0, n_whole))
                waiting = waiting.slice(n_whole)

        def append(rows: pa.Table) -> None:
            # in one chunk: the writer ends a page where a chunk ends, and asks only then whether its dictionary is full
            writer.write_table(rows.combine_chunks(), row_group_size=ROW_GROUP)

        yield write
        if len(waiting):
            append(waiting)


def read_parquet(file: Path, columns: list[str] | None = None) -> "pd.DataFrame":
    """Read what `write_parquet` wrote.

    Raises:
        UserError: the file is missing or damaged.
    """
    import pandas as pd
    import pyarrow as pa

    if not file.is_file():
        raise UserError(f"{file} not found; run `dvc repro`, which makes it")
    try:
        return pd.read_parquet(file, columns=columns)
    except (pa.ArrowException, OSError) as damage:
        reason = str(damage).splitlines()[0]
        raise UserError(f"{file} cannot be read ({reason}); delete it and run `dvc repro`") from None


def read_metrics(file: Path) -> Any:
    """Read what `write_metrics` wrote.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not file.is_file():
        raise UserError(f"{file} not found; run `dvc repro`, which makes it")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as damage:
        raise UserError(f"{file} is no JSON ({damage}); delete it and run `dvc repro`") from None


def write_metrics(metrics: Mapping[str, Any], file: Path) -> None:
    """Write figures, nested or not, as JSON: keys sorted, fractions rounded to six digits."""
    text = json.dumps(_rounded(metrics), sort_keys=True, indent=2, allow_nan=False)
    with written(file) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value
