"""Item embeddings: float32 (n_items + 1, dim), row = item_id, row 0 = padding; read from a user's file and checked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec.codes.item_embeddings import check_embeddings, load_embeddings
from genrec.errors import UserError


def read_embeddings(file: Path, item_keys: Sequence[str]) -> NDArray[np.float32]:
    """Read a user's embeddings.

    Args:
        file: `.npy` of shape (n_items + 1, dim), row = item_id, row 0 unused; or `.parquet` with a column `item_key`
            and one numeric column a dimension, in any order of rows, or a folder of such parts, as Spark writes it.
        item_keys: n_items, the keys in the order of item_ids.

    Raises:
        UserError: the file is missing, of another kind or shape, lacks an item, or holds NaN or infinity.
    """
    if not file.exists():
        raise UserError(f"no file of item embeddings {str(file)!r}; give the path of a .npy or .parquet file")
    if file.suffix == ".npy":
        return load_embeddings(file, len(item_keys))
    if file.suffix == ".parquet" or file.is_dir():
        return check_embeddings(_by_key(file, item_keys), len(item_keys), str(file))
    raise UserError(f"a file of item embeddings must end in .npy or .parquet, got {file.name!r}; convert it")


def with_padding_row(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n_items, dim) in the order of item_ids to (n_items + 1, dim): row 0 is zero."""
    return np.concatenate([np.zeros((1, vectors.shape[1]), vectors.dtype), vectors])


def standardize(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each dimension to mean 0 and variance 1 over the items; a constant dimension becomes 0, and so does row 0."""
    items = embeddings[1:].astype(np.float64)
    deviation = items.std(axis=0)
    standardized = np.zeros_like(embeddings)
    standardized[1:] = (items - items.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return standardized


def _by_key(file: Path, item_keys: Sequence[str]) -> NDArray[np.float32]:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet

    from genrec.data.parquet_columns import as_keys  # here: an .npy file needs no pyarrow

    try:
        table = pa.parquet.read_table(file)
        if "item_key" not in table.column_names:
            names = ", ".join(table.column_names[:8])
            raise UserError(f"{file} must have a column item_key, got {names}; name it so")
        keys, frame = as_keys(table["item_key"], "item_key", file), table.to_pandas()
        frame = frame.assign(item_key=keys.to_pandas().to_numpy())  # its rows may have names of their own
    except (pa.ArrowException, OSError) as mistake:
        raise UserError(f"{file} cannot be read: {str(mistake).splitlines()[0]}; write it again") from None
    repeated = frame.loc[frame["item_key"].duplicated(), "item_key"]
    if len(repeated):
        raise UserError(f"{file} must have one row for each item_key, but {repeated.iloc[0]!r} has two; drop one")
    rows = frame.set_index("item_key").reindex(pd.Index(item_keys))
    missing = rows.index[rows.isna().all(axis=1)]
    if len(missing):
        raise UserError(
            f"{file} lacks {len(missing)} of the {len(item_keys)} items, such as item_key {missing[0]!r},"
            f" and has such as {frame['item_key'].iloc[0] if len(frame) else None!r}; spell them alike or add them"
        )
    try:
        return with_padding_row(rows.to_numpy(np.float32))
    except (TypeError, ValueError) as mistake:
        raise UserError(f"{file}: all columns but item_key must hold numbers ({mistake}); drop the others") from None
