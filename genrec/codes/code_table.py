"""The code table: item_id to semantic ID, one row an item, and the checks that keep it a bijection.

row 0            -1   -1   -1   -1     padding
row item_id       7    2   40    0     the codes of levels 0..2, then the collision code
                  7    2   40    1     another item with the same codes
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genrec.errors import UserError
from genrec.storage.files import load_arrays, save_array


def append_collision_codes(codes: Tensor) -> Tensor:
    """Number the items that share all their codes, in the order of item_ids, so that each row becomes unique.

    Args:
        codes: (n_items, num_levels) int, the code of each item at each level.

    Returns:
        (n_items, num_levels + 1) of the same dtype; the last column counts 0, 1, 2... within equal rows.

    Example:
        >>> append_collision_codes(torch.tensor([[7, 2], [5, 1], [7, 2]])).tolist()
        [[7, 2, 0], [5, 1, 0], [7, 2, 1]]
    """
    _, bucket, sizes = torch.unique(codes, dim=0, return_inverse=True, return_counts=True)
    by_bucket = bucket.argsort(stable=True)
    first = sizes.cumsum(0) - sizes
    collision = torch.empty_like(bucket)
    collision[by_bucket] = torch.arange(len(codes), device=codes.device) - first[bucket[by_bucket]]
    return torch.cat([codes, collision[:, None].to(codes.dtype)], dim=1)


def build_code_table(codes: Tensor, code_num: int) -> Tensor:
    """Put the padding row before all items' semantic IDs.

    Args:
        codes: (n_items, num_levels) int, row i is that of item_id i + 1.
        code_num: codes a level; the collision code has as many values.

    Returns:
        (n_items + 1, num_levels + 1) int32; row 0 is -1.

    Raises:
        UserError: more than `code_num` items share their codes.
    """
    table = append_collision_codes(codes.to(torch.int32))
    largest = int(table[:, -1].max()) + 1 if len(table) else 0
    if largest > code_num:
        raise UserError(
            f"{largest} items share the same {codes.shape[1]} codes, but the collision code has only {code_num} values "
            "(model.code_num); raise model.code_num or model.num_levels, or train the tokenizer longer"
        )
    return torch.cat([table.new_full((1, table.shape[1]), -1), table])


def collision_rate(codes: Tensor) -> float:
    """The share of items beyond one for each distinct row of codes: (n - distinct) / n.

    Example:
        >>> collision_rate(torch.tensor([[7, 2], [5, 1], [7, 2], [7, 2]]))
        0.5
    """
    return 1 - len(torch.unique(codes, dim=0)) / len(codes)


def save_code_table(table: Tensor, file: Path) -> None:
    save_array(table.cpu().numpy().astype(np.int32), file)


def check_capacity(n_items: int, code_num: int, num_levels: int, max_collision_rate: float) -> None:
    """Refuse codebooks that cannot tell a catalogue's items apart, however well they are trained.

    Raises:
        UserError: there are fewer semantic IDs than items, or more items must collide than the gate lets through.
    """
    without_collision = code_num**num_levels
    place = f"model.code_num={code_num} and model.num_levels={num_levels}"
    if n_items > without_collision * code_num:
        raise UserError(
            f"{n_items} items are more than the {without_collision * code_num} semantic IDs of {place} "
            "with a collision code; raise one of them"
        )
    unavoidable = 1 - without_collision / n_items
    if unavoidable > max_collision_rate:
        raise UserError(
            f"{n_items} items are more than the {without_collision} rows of codes of {place}: at least "
            f"{unavoidable:.3f} of them collide, and train_rqvae.gates.max_collision_rate is {max_collision_rate}; "
            "raise one of the three"
        )


def load_code_table(file: Path, n_items: int, code_num: int, num_levels: int) -> Tensor:
    """Read a code table and check that it fits the catalogue and the codebooks.

    Returns:
        (n_items + 1, num_levels + 1) int32.

    Raises:
        UserError: the file is damaged; the table has other rows than the catalogue or other columns than the levels
            and the collision code, a code outside 0..code_num - 1, or equal rows.
    """
    array = load_arrays(file).get("array")
    if array is None or array.dtype.kind not in "iu":
        kind = "several arrays" if array is None else str(array.dtype)
        raise UserError(f"{file} must hold one array of integers, got {kind}; build it with `build_code_table`")
    table = torch.from_numpy(array.astype(np.int64))
    if table.ndim == 2 and table.shape[1] != num_levels + 1:
        raise UserError(
            f"{file} must have {num_levels} columns of codes (model.num_levels) and one of collision codes, got "
            f"{table.shape[1]} in all; build it again"
        )
    if table.ndim != 2 or len(table) != n_items + 1:
        raise UserError(
            f"{file} must have a row for padding and each of the {n_items} items, got shape {tuple(table.shape)}; "
            "build it again from these items' embeddings"
        )
    if (table[0] != -1).any() or (table[1:] < 0).any() or (table[1:] >= code_num).any():
        raise UserError(
            f"{file} must hold -1 in row 0 and codes 0..{code_num - 1} (model.code_num) below it; build it again"
        )
    if len(torch.unique(table, dim=0)) != len(table):
        raise UserError(f"{file} gives two items the same semantic ID; build it with `build_code_table`")
    return table.to(torch.int32)


def to_tokens(table: Tensor, code_num: int) -> Tensor:
    """Each code as a token of its own: code + level * code_num + 1; padding is 0.

    Args:
        table: (n_items + 1, code_length) int, a code table.

    Returns:
        The same shape, int64.

    Example:
        >>> to_tokens(torch.tensor([[-1, -1], [0, 3], [3, 0]]), code_num=4).tolist()
        [[0, 0], [1, 8], [4, 5]]
    """
    offsets = torch.arange(table.shape[1], device=table.device) * code_num + 1
    return torch.where(table < 0, 0, table.long() + offsets)
