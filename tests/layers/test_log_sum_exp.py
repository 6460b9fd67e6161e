"""log sum exp of products: equal to the plain formula, with its gradients, in pieces of any size."""

import pytest
import torch

from genrec.layers import log_sum_exp
from genrec.layers.log_sum_exp import log_sum_exp_of_products

ROWS, COLUMNS = torch.tensor([0, 2, 2, 6]), torch.tensor([3, 0, 10, 5])


def inputs(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(7, 4, dtype=dtype, requires_grad=True), torch.randn(11, 4, dtype=dtype, requires_grad=True)


def plain(states, vectors):
    logits = states @ vectors.T
    hidden = torch.zeros(logits.shape, dtype=torch.bool)
    hidden[ROWS, COLUMNS] = True
    return logits.masked_fill(hidden, -torch.inf).logsumexp(1)


@pytest.mark.parametrize("chunk", [1, 25, 1000])
def test_values_and_gradients_are_those_of_the_plain_formula(monkeypatch, chunk):
    monkeypatch.setattr(log_sum_exp, "CHUNK_ELEMENTS", chunk)
    weights = torch.arange(1.0, 8.0, dtype=torch.float64)
    found = []
    for function in (plain, lambda states, vectors: log_sum_exp_of_products(states, vectors, ROWS, COLUMNS)):
        states, vectors = inputs()
        sums = function(states, vectors)
        (sums * weights).sum().backward()
        found.append((sums.detach(), states.grad, vectors.grad))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_row_whose_pairs_are_all_hidden_is_minus_infinity_and_has_no_gradient():
    states, vectors = inputs()
    rows, columns = torch.zeros(11, dtype=torch.long), torch.arange(11)
    sums = log_sum_exp_of_products(states, vectors, rows, columns)
    assert sums[0] == -torch.inf
    torch.logaddexp(sums, torch.zeros(7, dtype=torch.float64)).sum().backward()
    assert (states.grad[0] == 0).all()
    assert states.grad.isfinite().all()
    assert vectors.grad.isfinite().all()


def test_under_autocast_products_are_rounded_and_sums_are_not():
    states, vectors = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        sums = log_sum_exp_of_products(states, vectors, ROWS, COLUMNS)
    assert sums.dtype == torch.float32
    torch.testing.assert_close(sums, plain(states, vectors), atol=0.05, rtol=0)
    sums.sum().backward()
    assert states.grad.dtype == torch.float32
