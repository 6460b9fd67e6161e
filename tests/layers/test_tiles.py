"""What a user is given does not depend on the batch, on any kind of processor, for all that ranks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genrec.layers.tiles import in_tiles, of_like_length, score_in_tiles

TESTS = Path(__file__).parents[1]
CAPABILITIES = {"default": "DEFAULT", "avx2": "AVX2", "avx512": "AVX512"}


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_all_that_ranks_gives_the_same_lists_and_the_same_bytes_of_scores_in_any_batch(capability):
    environment = {
        **os.environ, "ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS.parent),
    }  # fmt: skip
    asked = subprocess.run(
        [sys.executable, TESTS / "any_batch.py"], capture_output=True, text=True, check=True, env=environment
    )
    used, *wrong = asked.stdout.split("\n")
    # a processor without the instructions uses what it has
    assert (used == CAPABILITIES[capability]) or (used != torch.backends.cpu.get_cpu_capability())
    assert [name for name in wrong if name] == []


def test_rows_are_computed_in_tiles_of_one_shape_and_stay_in_order():
    shapes = []

    def double(rows: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(rows.shape))
        return rows * 2

    rows = torch.arange(10).view(5, 2)
    with torch.no_grad():
        assert torch.equal(in_tiles(double, rows, size=4), rows * 2)
        assert torch.equal(in_tiles(double, rows[:0], size=4), rows[:0])
    assert shapes == [(4, 2), (4, 2), (0, 2)]


def test_histories_are_scored_at_a_width_that_follows_from_their_own_length():
    widths = []

    def last(history: torch.Tensor) -> torch.Tensor:
        widths.append(history.shape[1])
        return history.amax(1, keepdim=True)

    history = torch.tensor([[9] * 11, [3] * 7 + [0] * 4, [5] + [0] * 10, [8] * 8 + [0] * 3])
    with torch.no_grad():
        assert score_in_tiles(last, history, 12)[:, 0].tolist() == [9, 3, 5, 8]
    assert widths == [8, 12]


def test_with_gradients_all_rows_are_computed_at_once():
    rows = torch.ones(20, 3, requires_grad=True)
    seen = []
    score_in_tiles(lambda history: seen.append(len(history)) or history, rows, 3).sum().backward()
    assert seen == [20]
    assert rows.grad is not None


def test_padding_on_the_left_is_read_whole():
    (rows, part), *others = of_like_length(torch.tensor([[0, 0, 7]]))
    assert (rows.tolist(), part.tolist(), others) == ([0], [[0, 0, 7, 0, 0, 0, 0, 0]], [])
