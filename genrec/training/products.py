"""Matrix products of a portable training: torch's are handed to the OpenBLAS that numpy has.

Of MKL, which multiplies torch's matrices, only the branch without AVX gives all processors the same sums, and that
takes almost three times as long. OpenBLAS does as it is told (`OPENBLAS_CORETYPE`): its kernels for AVX2, in blocks
whose size depends on nothing else, on each processor. docs/decisions/17-products-by-openblas.md has what was measured.

Only products that learn are its own. Its sums of a row depend on where the row stands among the others, which MKL's do
not, and what a user is given must not depend on the batch.
"""

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrec.processor import PORTABLE

# None until torch's own products were replaced; they stay replaced as long as it is there
_replaced: Any = None


def computes_portably() -> bool:
    """Whether torch and the libraries beside it compute as on each x86-64 processor with AVX2.

    By what torch acts on and not by what was asked: not every machine can be portable, and a program that calls a
    stage's `main` has loaded the libraries before.
    """
    told = all(os.environ.get(name) == PORTABLE[name] for name in ("MKL_CBWR", "OPENBLAS_CORETYPE"))
    return told and torch.backends.cpu.get_cpu_capability() == "AVX2" and "openblas" in numpys_library()


def numpys_library() -> str:
    """The name of the library that multiplies numpy's matrices: OpenBLAS in the wheels of PyPI, MKL in some others."""
    built: Any = np.show_config(mode="dicts")
    return str(built["Build Dependencies"]["blas"]["name"]).lower()


def multiply_portably() -> None:
    """Where this process is portable, let numpy multiply torch's matrices on the CPU, wherever gradients are wanted.

    The second time it does nothing. Without gradients, and within `scaled_dot_product_attention` or of a matrix and a
    vector, torch multiplies as before.
    """
    global _replaced
    if _replaced is not None or not computes_portably():
        return
    library: Any = torch.library.Library
    _replaced = library("aten", "IMPL")
    kernels = {"mm": _mm, "bmm": _bmm, "addmm": _addmm, "baddbmm": _baddbmm}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators.*")  # that one was replaced
        for name, kernel in kernels.items():
            _replaced.impl(name, kernel, "CPU")


def _mm(a: Tensor, b: Tensor) -> Tensor:
    return _product(a, b) if _learns() else _without_gradients(torch.mm, a, b)


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    return _product(a, b) if _learns() else _without_gradients(torch.bmm, a, b)


def _addmm(to: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if _learns():
        return _added(to, _product(a, b), beta, alpha)
    return _without_gradients(torch.addmm, to, a, b, beta=beta, alpha=alpha)


def _baddbmm(to: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if _learns():
        return _added(to, _product(a, b), beta, alpha)
    return _without_gradients(torch.baddbmm, to, a, b, beta=beta, alpha=alpha)


def _learns() -> bool:
    """Whether gradients are wanted of what is computed, or it is one: backward, torch wants none of it."""
    return torch.is_grad_enabled() or torch._C._current_graph_task_id() != -1


def _without_gradients(operation: Callable[..., Tensor], *tensors: Tensor, **scales: float) -> Tensor:
    """torch's own product: it has another kernel where it is given the place, which was not replaced."""
    a, b = tensors[-2:]
    return operation(*tensors, **scales, out=torch.empty(*a.shape[:-1], b.shape[-1], dtype=a.dtype))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """(..., m, k) and (..., k, n) to (..., m, n), of the same type."""
    if a.dtype in (torch.float16, torch.bfloat16):  # numpy has no bfloat16
        return _product(a.float(), b.float()).to(a.dtype)
    product = torch.empty(*a.shape[:-1], b.shape[-1], dtype=a.dtype)
    np.matmul(_readable(a).numpy(), _readable(b).numpy(), out=product.numpy())
    return product


def _readable(x: Tensor) -> Tensor:
    """As it is where OpenBLAS can read its matrices row by row or column by column, else a copy."""
    x = x.detach().resolve_conj().resolve_neg()
    rows, columns = x.stride()[-2:]
    n_rows, n_columns = x.shape[-2:]
    is_readable = (columns == 1 and rows >= n_columns) or (rows == 1 and columns >= n_rows)
    return x if is_readable else x.contiguous()


def _added(to: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    """beta * to + alpha * product, in the product's place; `to` broadcasts."""
    if alpha != 1:
        product *= alpha
    return product if beta == 0 else product.add_(to, alpha=beta)
