"""Columns of parquet files as text, however another program spelled it."""

from pathlib import Path

import pyarrow as pa

from genrec.errors import UserError


def as_keys(column: pa.ChunkedArray, name: str, file: Path) -> pa.ChunkedArray:
    """Keys of any spelling of text or of integers as text.

    Raises:
        UserError: the column holds something else.
    """
    plain = as_text(column)
    is_whole = pa.types.is_decimal(plain.type) and plain.type.scale <= 0  # as databases export their numbers
    is_text = pa.types.is_string(plain.type) or pa.types.is_large_string(plain.type)
    if not (pa.types.is_integer(plain.type) or is_text or is_whole):
        raise UserError(f"{file}: column {name!r} must hold text or integers, got {column.type}; convert it")
    if is_whole:
        plain = plain.cast(pa.decimal256(76, 0))  # 1E+2 is spelled out
    return plain.cast(pa.string())


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The text of a dictionary, of a view, or of bytes, which Impala and older Hive and Spark write for text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return as_text(column.cast(kind.value_type))
    if pa.types.is_string_view(kind):
        return column.cast(pa.string())
    is_bytes = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    if any(test(kind) for test in is_bytes):
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid:  # a picture beside an item; a key is refused
            return column
    return column
