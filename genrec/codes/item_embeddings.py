"""Item embeddings as every stage reads them: float32 (n_items + 1, dim), row = item_id, row 0 = padding."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec.errors import UserError
from genrec.storage.files import load_arrays


def load_embeddings(file: Path, n_items: int | None = None) -> NDArray[np.float32]:
    """Read an .npy file of ours or a user's, and check it; without `n_items` it has any number of rows.

    Raises:
        UserError: the file is missing or damaged, has another shape, or holds NaN or infinity.
    """
    array = load_arrays(file, "write it with numpy.save").get("array")
    if array is None:
        raise UserError(f"{file} must hold one array, got several; write it with numpy.save")
    if n_items is None:
        n_items = max(array.shape[:1], default=1) - 1
    return check_embeddings(array, n_items, str(file))


def check_embeddings(embeddings: NDArray[np.floating], n_items: int, place: str) -> NDArray[np.float32]:
    """Refuse what is not one finite row for each item and one for padding; row 0 becomes zero."""
    if embeddings.dtype.kind not in "fiu":
        raise UserError(f"{place} must hold numbers, got {embeddings.dtype}; write an array of float32")
    if embeddings.ndim != 2 or len(embeddings) != n_items + 1 or not embeddings.shape[1] or n_items < 1:
        raise UserError(
            f"{place} must have a row for padding and one for each of the {n_items} items, got shape "
            f"{embeddings.shape}; row item_id is that item's vector"
        )
    with np.errstate(over="ignore"):
        as_float32 = embeddings.astype(np.float32)
    bad_rows = np.flatnonzero(~np.isfinite(as_float32[1:]).all(axis=1)) + 1
    if len(bad_rows):
        raise UserError(
            f"{place} must be finite, but {len(bad_rows)} rows hold NaN or infinity, the first is row {bad_rows[0]}; "
            f"mend them, or make the embeddings again"
        )
    checked = as_float32
    checked[0] = 0
    return checked
