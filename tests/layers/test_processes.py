"""What processes that train together do alike, and that each is idle where one trains alone."""

import numpy as np
import pytest
import torch
from processes_together import run_together

from genrec.errors import UserError
from genrec.layers.processes import (
    SAME_DRAWS,
    gathered,
    gathered_padded,
    mean_of_all,
    n_processes,
    of_the_first,
    process_rank,
    share_of,
    summed,
    total_of,
    weight_of,
)

pytestmark = pytest.mark.slow
ROWS = np.arange(10, 17)


def widening(n_rows):
    """Ones, and twos, as wide as this process's number and one more."""
    ones = torch.ones(n_rows, process_rank() + 1, 1)
    return ones, 2 * ones


def exchanges():
    rows = share_of(ROWS)
    SAME_DRAWS.seed(5)
    cpu = torch.device("cpu")
    return {
        "processes": (process_rank(), n_processes()),
        "rows": rows.tolist(),
        "total": total_of(len(rows), cpu),
        "weight": weight_of(len(rows), total_of(len(rows), cpu)),
        "sum": summed(torch.tensor([1.0, process_rank()])).tolist(),
        "gathered": gathered(torch.from_numpy(rows)[:, None]).tolist(),
        "padded": [each.tolist() for each in gathered_padded(*widening(len(rows)))],
        "means": [each.tolist() for each in mean_of_all([torch.tensor(process_rank() + 1.0), torch.zeros(2, 1)])],
        "first": of_the_first(process_rank),
        "same": torch.rand(3, generator=SAME_DRAWS.on(cpu)).tolist(),
        "own": torch.rand(3).tolist(),
    }


def test_two_processes_share_a_batch_and_know_the_whole_of_it(tmp_path):
    first, second = run_together(exchanges, tmp_path)
    assert (first["processes"], second["processes"]) == ((0, 2), (1, 2))
    assert (first["rows"], second["rows"]) == ([10, 12, 14, 16], [11, 13, 15])
    for each in (first, second):
        assert each["total"] == 7
        assert each["sum"] == [2.0, 1.0]
        assert each["gathered"] == [[row] for row in ROWS]
        ones = [[[1.0], [float(row % 2)]] for row in range(7)]
        assert each["padded"] == [ones, (2 * torch.tensor(ones)).tolist()]
        assert each["means"] == [1.5, [[0.0], [0.0]]]
        assert each["first"] == 0
    assert (first["weight"], second["weight"]) == (4 * 2 / 7, 3 * 2 / 7)


def test_draws_for_all_are_those_of_one_process_and_dropout_differs(tmp_path):
    first, second = run_together(exchanges, tmp_path)
    alone = exchanges()
    assert first["same"] == second["same"] == alone["same"]
    assert first["own"] != second["own"]


def test_alone_all_rows_are_ones_own_and_torchs_own_randomness_draws():
    rows = torch.ones(2, 3)
    assert (process_rank(), n_processes()) == (0, 1)
    assert share_of(ROWS) is ROWS
    assert gathered(rows) is rows
    assert gathered_padded(rows)[0] is rows
    assert mean_of_all([rows])[0] is rows
    assert summed(rows) is rows
    assert weight_of(3, total_of(3, rows.device)) == 1
    assert SAME_DRAWS.on(rows.device) is None


def gradients():
    """Of a loss of each row with all others, which each process has whole, and then of its share alone."""
    found = []
    for is_whole in (True, False):
        scale = torch.ones(7, requires_grad=True)
        products = gathered(torch.from_numpy(share_of(np.arange(7.0))) * share_of(scale))
        products = torch.outer(products, products)
        loss = products.square().sum() if is_whole else share_of(products).square().sum() * n_processes()
        loss.backward()
        found.append((summed(scale.grad) / n_processes()).tolist())
    return found


def test_the_mean_gradient_of_gathered_rows_is_that_of_one_process(tmp_path):
    alone = gradients()
    assert alone[0] == alone[1]
    for found in run_together(gradients, tmp_path):
        assert found == [pytest.approx(each) for each in alone]


def too_few_rows():
    with pytest.raises(UserError, match=r"^a batch has 1 rows, fewer than the 2 processes that share it; raise batch"):
        share_of(np.arange(1))
    return True


def test_a_batch_without_a_row_for_each_is_refused(tmp_path):
    assert run_together(too_few_rows, tmp_path) == [True, True]
