"""A portable training, and nothing else, multiplies torch's matrices by numpy's OpenBLAS: right, with gradients."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_pipeline import PROJECT

from genrec.processor import can_be_portable, portable_environment
from genrec.training import products
from genrec.training.products import multiply_portably

pytestmark = pytest.mark.skipif(not can_be_portable(), reason="no x86-64 with AVX2")


@pytest.fixture
def portable(monkeypatch):
    """torch with its products replaced; as it was, when the test is over."""
    monkeypatch.setattr(products, "computes_portably", lambda: True)
    multiply_portably()
    yield
    take_back()


def take_back():
    products._replaced._destroy()
    products._replaced = None


def matrices(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# each makes (a, b) of which OpenBLAS reads one row by row, column by column, or only as a copy
LAYOUTS = {
    "rows": lambda: (matrices(7, 5), matrices(5, 9, seed=1)),
    "columns": lambda: (matrices(5, 7).T, matrices(9, 5, seed=1).T),
    "every second column": lambda: (matrices(7, 10)[:, ::2], matrices(5, 9, seed=1)),
    "part of a wider matrix": lambda: (matrices(7, 8)[:, 2:7], matrices(5, 30, seed=1)[:, 3:12]),
    "one row for all": lambda: (matrices(1, 5).expand(7, 5), matrices(5, 9, seed=1)),
    "one number for all": lambda: (matrices(1, 1).expand(7, 5), matrices(5, 1, seed=1).expand(5, 9)),
    "backwards": lambda: (matrices(7, 5).flip(1), matrices(5, 9, seed=1)),
    "a row": lambda: (matrices(1, 5), matrices(5, 9, seed=1)),
    "a column": lambda: (matrices(7, 5), matrices(5, 1, seed=1)),
    "itself": lambda: (lambda x: (x, x.T))(matrices(7, 5)),
    "no rows": lambda: (matrices(0, 5), matrices(5, 9, seed=1)),
    "nothing to sum": lambda: (matrices(7, 0), matrices(0, 9, seed=1)),
    "batches": lambda: (matrices(4, 7, 5), matrices(4, 5, 9, seed=1)),
    "batches of columns": lambda: (matrices(4, 5, 7).mT, matrices(4, 9, 5, seed=1).mT),
    "heads": lambda: (matrices(7, 4, 5).transpose(0, 1), matrices(9, 4, 5, seed=1).permute(1, 2, 0)),
    "one batch for all": lambda: (matrices(1, 7, 5).expand(4, 7, 5), matrices(4, 5, 9, seed=1)),
    "no batch": lambda: (matrices(0, 7, 5), matrices(0, 5, 9, seed=1)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_products_are_those_of_float64(portable, layout):
    a, b = LAYOUTS[layout]()
    expected = np.matmul(a.double().numpy(), b.double().numpy())
    found = torch.matmul(a, b)
    assert (found.dtype, found.shape) == (torch.float32, expected.shape)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_matrices_are_added_with_their_weights(portable, layout):
    a, b = LAYOUTS[layout]()
    add = torch.addmm if a.dim() == 2 else torch.baddbmm
    to = matrices(a.shape[-2], b.shape[-1], seed=2)
    to = to if a.dim() == 2 else to.expand(len(a), *to.shape)
    expected = 0.5 * to.double() - 2 * torch.from_numpy(np.matmul(a.double().numpy(), b.double().numpy()))
    torch.testing.assert_close(add(to, a, b, beta=0.5, alpha=-2).double(), expected, rtol=1e-5, atol=1e-5)
    unused = torch.full_like(to, torch.nan)
    assert not add(unused, a, b, beta=0).isnan().any()


def same_bytes(a, b):
    return a.detach().numpy().tobytes() == b.detach().numpy().tobytes()


def test_the_bytes_are_numpys_forward_and_backward(portable):
    x, weight, slope = matrices(40, 64), matrices(30, 64, seed=1), matrices(40, 30, seed=2)
    x.requires_grad_(), weight.requires_grad_()
    made = F.linear(x, weight)
    made.backward(slope)
    for found, (a, b) in {made: (x, weight.T), x.grad: (slope, weight), weight.grad: (slope.T, x)}.items():
        assert same_bytes(found, torch.from_numpy(np.matmul(a.detach().numpy(), b.detach().numpy())))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_bytes_are_torchs(monkeypatch, layout, mode):
    with mode():
        a, b = LAYOUTS[layout]()
        to = matrices(*a.shape[:-1], b.shape[-1], seed=2)
        add = torch.addmm if a.dim() == 2 else torch.baddbmm
        before = a @ b, add(to, a, b, beta=0.5, alpha=3)
        monkeypatch.setattr(products, "computes_portably", lambda: True)
        multiply_portably()
        try:
            after = a @ b, add(to, a, b, beta=0.5, alpha=3)
        finally:
            take_back()
    assert all(map(same_bytes, before, after))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_other_types_stay_what_they_are(portable, dtype):
    a, b = matrices(7, 5, dtype=dtype), matrices(5, 9, dtype=dtype, seed=1)
    expected = (a.double() @ b.double()).to(dtype)
    assert (a @ b).dtype == dtype
    torch.testing.assert_close(a @ b, expected)


def test_gradients_are_those_of_differences(portable):
    x, weight, bias = (matrices(*shape, dtype=torch.float64).requires_grad_() for shape in ((2, 3, 4), (5, 4), (5,)))
    assert torch.autograd.gradcheck(F.linear, (x, weight, bias))
    assert torch.autograd.gradgradcheck(lambda x, w: x @ w.T, (x, weight))
    assert torch.autograd.gradcheck(torch.bmm, (x, x.detach().mT.contiguous().requires_grad_()))


def test_a_function_over_a_batch_of_gradients_works_as_before(portable):
    x, weight = matrices(6, 4), matrices(3, 4, seed=1)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda row: F.linear(row, weight).tanh()))(x)
    slopes = 1 - F.linear(x, weight).tanh() ** 2
    torch.testing.assert_close(jacobians, slopes[:, :, None] * weight)


def test_twice_is_once_and_another_process_keeps_torchs(portable, monkeypatch):
    first = products._replaced
    multiply_portably()
    assert products._replaced is first
    monkeypatch.setattr(products, "_replaced", None)
    monkeypatch.setattr(products, "computes_portably", lambda: False)
    multiply_portably()
    assert products._replaced is None
    products._replaced = first  # the fixture's, which ends it


PROBE = """
import numpy, torch
from genrec.training.base import BaseTrainer
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger
from genrec.models.sasrec import SASRec

a, b = (torch.randn(s, generator=torch.Generator().manual_seed(0)) for s in ((33, 65), (65, 17)))
config = TrainingConfig(checkpoint_dir="nowhere", gpus=0, progress_bar=False)
BaseTrainer(SASRec(9, 8, 1, 2, 0.0, 8), config, CurveLogger()).setup_trainer()
print(torch.equal(a @ b, torch.from_numpy(numpy.matmul(a.numpy(), b.numpy()))))
print("products.py" in torch._C._dispatch_dump("aten::mm"))
"""


@pytest.mark.parametrize("is_portable", [True, False])
def test_a_training_multiplies_as_its_environment_says_and_says_nothing(is_portable, tmp_path):
    environment = portable_environment(1) if is_portable else {**os.environ, "MKL_CBWR": "AUTO"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=tmp_path, env={**environment, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    same, replaced = done.stdout.split()
    assert replaced == str(is_portable)
    assert same == "True" or not is_portable
    assert done.stderr == ""
