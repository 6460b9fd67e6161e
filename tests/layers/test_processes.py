"""What processes that train together do alike, and that each is idle where one trains alone."""

import numpy as np
import pytest
import torch
from processes_together import run_together

from genrec.errors import UserError
from genrec.layers.dropout import Dropout, ElementDropout, SharedDropout
from genrec.layers.processes import (
    WHOLE_BATCH,
    gathered,
    mean_of_all,
    n_processes,
    of_the_first,
    process_rank,
    rows_of_all,
    share_of,
    summed,
    targets_of_all,
    total_of,
    weight_of,
)

pytestmark = pytest.mark.slow
ROWS = np.arange(10, 17)


def exchanges():
    rows = share_of(ROWS)
    cpu = torch.device("cpu")
    return {
        "processes": (process_rank(), n_processes()),
        "rows": rows.tolist(),
        "total": total_of(len(rows), cpu),
        "weight": weight_of(len(rows), total_of(len(rows), cpu)),
        "sum": summed(torch.tensor([1.0, process_rank()])).tolist(),
        "gathered": gathered(torch.from_numpy(rows)[:, None]).tolist(),
        "means": [each.tolist() for each in mean_of_all([torch.tensor(process_rank() + 1.0), torch.zeros(2, 1)])],
        "first": of_the_first(process_rank),
    }


def test_two_processes_share_a_batch_and_know_the_whole_of_it(tmp_path):
    first, second = run_together(exchanges, tmp_path)
    assert (first["processes"], second["processes"]) == ((0, 2), (1, 2))
    assert (first["rows"], second["rows"]) == ([10, 12, 14, 16], [11, 13, 15])
    for each in (first, second):
        assert each["total"] == 7
        assert each["sum"] == [2.0, 1.0]
        assert each["gathered"] == [[row] for row in ROWS]
        assert each["means"] == [1.5, [[0.0], [0.0]]]
        assert each["first"] == 0
    assert (first["weight"], second["weight"]) == (4 * 2 / 7, 3 * 2 / 7)


def begun():
    """What each knows once a step has begun with its share of the rows, whose known targets are the even ones."""
    rows, cpu = share_of(ROWS), torch.device("cpu")
    n_known = torch.from_numpy(rows % 2 == 0).sum()
    told = [WHOLE_BATCH.begin(len(rows), n_known, cpu, stops=process_rank() == who) for who in (-1, 1)]
    return told, rows_of_all(len(rows)), targets_of_all(n_known), WHOLE_BATCH.shape((len(rows), 3))


def test_a_step_begins_with_what_all_have_of_the_batch_and_ends_where_one_wants_to(tmp_path):
    assert run_together(begun, tmp_path) == [([False, True], 7, 4, (7, 3))] * 2
    assert begun()[1:] == (7, 4, (7, 3))


def masks():
    """What dropout leaves of the rows, three features each, and of five places a row, as rows of their own."""
    rows = share_of(ROWS)
    WHOLE_BATCH.begin(len(rows), 0, torch.device("cpu"))
    torch.manual_seed(5)
    shared = SharedDropout(0.5)
    return {
        "rows": Dropout(0.5)(torch.ones(len(rows), 3)),
        "elements": ElementDropout(0.5)(torch.ones(len(rows), 3)),
        "places": Dropout(0.5)(torch.ones(len(rows) * 5, 3)).view(len(rows), 5, 3),
        "several layers": torch.stack([shared(torch.ones(len(rows), 4, 3)), shared(torch.ones(len(rows), 4, 3))], 1),
    }


def test_each_process_drops_of_its_rows_what_one_process_drops_of_them(tmp_path):
    first, second = run_together(masks, tmp_path)
    for name, whole in masks().items():
        assert whole.unique().tolist() == [0.0, 2.0]
        assert first[name].tolist() == whole[0::2].tolist()
        assert second[name].tolist() == whole[1::2].tolist()


def uneven():
    WHOLE_BATCH.begin(3, 0, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"^what is drawn for a batch of 3 rows .* for each of them, but it has 7 in"):
        Dropout(0.5)(torch.ones(7, 2))
    return True


def test_a_mask_that_is_not_of_the_batchs_rows_is_refused(tmp_path):
    assert run_together(uneven, tmp_path) == [True, True]


def test_alone_all_rows_are_ones_own():
    rows = torch.ones(2, 3)
    assert (process_rank(), n_processes()) == (0, 1)
    assert share_of(ROWS) is ROWS
    assert gathered(rows) is rows
    assert mean_of_all([rows])[0] is rows
    assert summed(rows) is rows
    assert weight_of(3, total_of(3, rows.device)) == 1
    assert (rows_of_all(2), targets_of_all(5)) == (2, 5)
    assert WHOLE_BATCH.share(rows) is rows
    assert WHOLE_BATCH.shape(rows.shape) == (2, 3)


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
