"""Sinkhorn in the log domain: against exact assignments, against the textbook's iteration, and without overflow."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from genrec.codes.tokenizer.sinkhorn import log_transport_plan

FIELD_EPSILON = 0.003


def random_distances(n_points, n_codes, seed=0, dtype=torch.float32):
    return torch.rand(n_points, n_codes, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("seed", range(5))
def test_as_many_points_as_codes_are_assigned_at_the_least_total_distance(seed):
    distances = random_distances(16, 16, seed)
    _, best = linear_sum_assignment(distances.numpy())
    assert log_transport_plan(distances).argmax(1).tolist() == best.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_four_points_a_code_are_spread_as_evenly_as_the_best_assignment(seed):
    distances = random_distances(64, 16, seed)
    codes = log_transport_plan(distances, iterations=2000).argmax(1)
    rows, columns = linear_sum_assignment(distances.repeat_interleave(4, dim=1).numpy())
    assert torch.bincount(codes, minlength=16).tolist() == [4] * 16
    chosen = distances[torch.arange(64), codes].sum()
    assert chosen.item() == pytest.approx(distances[rows, columns // 4].sum().item(), rel=1e-4)


def test_it_equals_the_textbooks_iteration_where_that_does_not_overflow():
    distances, epsilon = random_distances(12, 5, dtype=torch.float64), 0.2
    costs = distances - distances.amin(1, keepdim=True)
    plan = torch.exp(-2 * costs / costs.max() / epsilon)
    for _ in range(500):
        plan = plan / plan.sum(1, keepdim=True) / 12
        plan = plan / plan.sum(0, keepdim=True) / 5
    torch.testing.assert_close(log_transport_plan(distances, epsilon, iterations=500).exp(), plan)


def test_rows_and_columns_share_the_mass_equally():
    plan = log_transport_plan(random_distances(24, 6, dtype=torch.float64), epsilon=0.1, iterations=500).exp()
    torch.testing.assert_close(plan.sum(1), torch.full((24,), 1 / 24, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(0), torch.full((6,), 1 / 6, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e12])
def test_nothing_overflows_at_the_fields_epsilon_in_float32(scale):
    distances = random_distances(64, 16) * scale
    # what public code does there: infinite, and nan after the first normalisation
    scaled = 2 * (distances - distances.min()) / (distances.max() - distances.min()) - 1
    naive = torch.exp(-scaled / FIELD_EPSILON)
    assert (naive / naive.sum()).isnan().any()
    plan = log_transport_plan(distances, FIELD_EPSILON)
    assert plan.isfinite().all()
    torch.testing.assert_close(plan.exp().sum(0), torch.full((16,), 1 / 16))


def test_float32_chooses_as_float64_does():
    distances = random_distances(64, 16)
    plans = [log_transport_plan(distances.to(dtype)).argmax(1) for dtype in (torch.float32, torch.float64)]
    assert torch.equal(*plans)


def test_one_code_far_from_all_still_gets_its_share():
    distances = torch.cat([torch.rand(20, 1, generator=torch.Generator().manual_seed(0)), torch.full((20, 1), 9)], 1)
    assert torch.bincount(log_transport_plan(distances).argmax(1)).tolist() == [10, 10]


def test_equal_distances_are_no_division_by_zero():
    torch.testing.assert_close(log_transport_plan(torch.ones(4, 2)).exp(), torch.full((4, 2), 1 / 8))
