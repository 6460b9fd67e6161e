"""Semantic IDs of a catalogue: collision codes, the file, tokens, and what is refused."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from genrec.codes.code_table import (
    append_collision_codes,
    build_code_table,
    collision_rate,
    load_code_table,
    save_code_table,
    to_tokens,
)
from genrec.errors import UserError


def test_items_with_equal_codes_get_different_semantic_ids():
    codes = torch.tensor([[7, 2], [5, 1], [7, 2]])
    assert append_collision_codes(codes).tolist() == [[7, 2, 0], [5, 1, 0], [7, 2, 1]]


def test_the_collision_code_counts_the_earlier_items_of_the_same_codes():
    codes = torch.randint(0, 3, (200, 3), generator=torch.Generator().manual_seed(0))
    seen, expected = Counter(), []
    for row in map(tuple, codes.tolist()):
        expected.append(seen[row])
        seen[row] += 1
    assert append_collision_codes(codes)[:, -1].tolist() == expected


def test_collision_codes_leave_the_codes_alone():
    codes = torch.randint(0, 3, (50, 2), generator=torch.Generator().manual_seed(0))
    assert torch.equal(append_collision_codes(codes)[:, :2], codes)


def test_the_table_begins_with_padding():
    table = build_code_table(torch.tensor([[1, 0], [1, 0]]), code_num=4)
    assert table.tolist() == [[-1, -1, -1], [1, 0, 0], [1, 0, 1]]
    assert table.dtype == torch.int32


def test_as_many_equal_items_as_codes_fit():
    assert build_code_table(torch.zeros(4, 2, dtype=torch.long), code_num=4)[:, -1].tolist() == [-1, 0, 1, 2, 3]


def test_more_equal_items_than_codes_are_refused_with_their_number():
    with pytest.raises(UserError, match="5 items share the same 2 codes") as refusal:
        build_code_table(torch.zeros(5, 2, dtype=torch.long), code_num=4)
    assert "\n" not in str(refusal.value)


def test_the_collision_rate_is_the_share_of_items_beyond_the_distinct_ones():
    codes = torch.tensor([[7, 2], [5, 1], [7, 2], [7, 2], [5, 1]])
    assert collision_rate(codes) == pytest.approx((5 - 2) / 5)


def test_distinct_codes_do_not_collide():
    assert collision_rate(torch.tensor([[0, 1], [1, 0]])) == 0


def test_what_is_saved_is_loaded(tmp_path):
    table = build_code_table(torch.tensor([[3, 1], [0, 2], [3, 1]]), code_num=4)
    save_code_table(table, tmp_path / "table.npy")
    loaded = load_code_table(tmp_path / "table.npy", n_items=3, code_num=4, num_levels=2)
    assert torch.equal(loaded, table)
    assert loaded.dtype == torch.int32


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[-1, -1], [0, 0]], "2 items"),
        ([[0, 0], [0, 1], [1, 0]], "-1 in row 0"),
        ([[-1, -1], [0, 4], [1, 0]], "codes 0..3"),
        ([[-1, -1], [0, -1], [1, 0]], "codes 0..3"),
        ([[-1, -1], [1, 0], [1, 0]], "same semantic ID"),
    ],
    ids=["another catalogue", "no padding", "a code too large", "an item without a code", "equal rows"],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, rows, words):
    np.save(tmp_path / "table.npy", np.array(rows, np.int32))
    with pytest.raises(UserError, match=words) as refusal:
        load_code_table(tmp_path / "table.npy", n_items=2, code_num=4, num_levels=1)
    assert "\n" not in str(refusal.value)


def test_every_level_has_tokens_of_its_own():
    table = torch.tensor([[-1, -1, -1], [0, 0, 0], [3, 2, 1]])
    assert to_tokens(table, code_num=4).tolist() == [[0, 0, 0], [1, 5, 9], [1 + 3, 1 + 4 + 2, 1 + 8 + 1]]


def test_tokens_and_back_is_the_identity():
    codes = torch.randint(0, 5, (40, 3), generator=torch.Generator().manual_seed(0))
    table = build_code_table(codes, code_num=40)
    tokens = to_tokens(table, code_num=40)
    level = (tokens[1:] - 1) // 40
    assert torch.equal(level, torch.arange(4).expand(40, 4))
    assert torch.equal((tokens[1:] - 1) % 40, table[1:].long())


@pytest.mark.slow
def test_two_processes_build_the_same_bytes(tmp_path):
    program = (
        "import sys, torch; from pathlib import Path;"
        "from genrec.codes.code_table import build_code_table, save_code_table;"
        "codes = torch.randint(0, 4, (300, 3), generator=torch.Generator().manual_seed(1));"
        "save_code_table(build_code_table(codes, 64), Path(sys.argv[1]))"
    )
    for name in ("a.npy", "b.npy"):
        subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], check=True)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
