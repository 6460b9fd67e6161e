"""What items have in common, as categories: their codes, and columns of the item table."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from genrec.errors import UserError


def stack_attributes(code_table: Tensor, items: pd.DataFrame, columns: Sequence[str]) -> Tensor:
    """The attributes of each item.

    Args:
        code_table: (n_items + 1, code_length); the collision code, its last column, says nothing and is left out.
        items: a row for each item_id, in their order.
        columns: those of `items` whose values are categories.

    Returns:
        (n_items + 1, 1 + num_levels + n_columns) int64: the item_id, the codes, the columns' values in their order,
        all from 1; row 0, and 0 where an item has no value.

    Raises:
        UserError: there is no such column, or the tables are of different catalogues.
    """
    missing = [column for column in columns if column not in items]
    if missing:
        raise UserError(f"the item table has no column {missing[0]!r}; it has {', '.join(items.columns)}")
    n_rows = len(code_table)
    if len(items) != n_rows - 1:
        raise UserError(
            f"the item table has {len(items):,} rows, but the code table {n_rows - 1:,} items;"
            " run `dvc repro`, which makes both of the same data"
        )
    attributes = [torch.arange(n_rows), *(code_table[:, :-1].long() + 1).T]
    for column in columns:
        values, _ = pd.factorize(items[column], sort=True)
        attributes.append(torch.cat([torch.zeros(1, dtype=torch.long), torch.from_numpy(values).long() + 1]))
    return torch.stack(attributes, dim=1)
