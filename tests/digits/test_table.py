"""The table of digits: whose columns come from which source, in the order of item_ids."""

import numpy as np
import pytest
import torch

from genrec.digits import table as digits_module
from genrec.digits.table import build_digits
from genrec.errors import UserError


def source(n_items=60, dim=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n_items + 1, dim)).astype(np.float32)
    vectors[0] = 0
    return vectors


def test_each_source_has_digits_of_its_own_and_padding_has_none():
    first, second = source(seed=0), source(dim=6, seed=1)
    table = build_digits([(first, 4), (second, 2)], code_num=5, iterations=3, seed=0)
    assert table.shape == (61, 6)
    assert table.dtype == torch.int32
    assert (table[0] == -1).all()
    assert table[1:].unique().tolist() == [0, 1, 2, 3, 4]
    alone = build_digits([(second, 2)], code_num=5, iterations=3, seed=0)
    assert torch.equal(table[:, 4:], alone)


def test_a_louder_source_changes_no_digit():
    vectors = source()
    table, louder = (build_digits([(each, 4)], 5, 3, seed=0) for each in (vectors, 64 * vectors))
    assert torch.equal(table, louder)


def test_items_of_equal_vectors_have_equal_digits():
    vectors = source()
    vectors[7] = vectors[3]
    table = build_digits([(vectors, 4)], 5, 3, seed=0)
    assert torch.equal(table[7], table[3])


def test_a_large_catalogue_is_coded_by_what_was_fitted_to_a_part_of_it(monkeypatch):
    monkeypatch.setattr(digits_module, "MOST_FITTED", 30)
    table = build_digits([(source(), 4)], code_num=5, iterations=3, seed=0)
    assert table.shape == (61, 4)
    assert (table[1:] >= 0).all()


def test_digits_that_do_not_divide_the_dimensions_are_refused_with_both_numbers():
    with pytest.raises(UserError, match="got 3 digits of 8 dimensions"):
        build_digits([(source(), 3)], 5, 3, seed=0)
