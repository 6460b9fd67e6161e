"""Items' categories."""

import pandas as pd
import pytest
import torch

from genrec.errors import UserError
from genrec.ranking.item_attributes import stack_attributes

TABLE = torch.tensor([[-1, -1, -1], [3, 0, 0], [3, 0, 1]], dtype=torch.int32)
ITEMS = pd.DataFrame({"item_id": [1, 2], "year": ["1999", None]})


def test_ids_codes_and_columns_count_from_one_and_padding_is_zero():
    assert stack_attributes(TABLE, ITEMS, ["year"]).tolist() == [[0, 0, 0, 0], [1, 4, 1, 1], [2, 4, 1, 0]]


def test_a_missing_column_is_named():
    with pytest.raises(UserError, match="no column 'brand'; it has item_id, year"):
        stack_attributes(TABLE, ITEMS, ["brand"])


def test_the_items_of_another_catalogue_are_refused():
    with pytest.raises(UserError, match="the item table has 1 rows, but the code table 2 items; run `dvc repro`"):
        stack_attributes(TABLE, ITEMS[:1], ["year"])
