"""Towers and rankers as ONNX files: features by name in, vectors or scores out (`pip install genrec[onnx]`)."""

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from genrec.tasks.features import Batch


class _ByPlace(nn.Module):
    """A function of features by name as one of tensors in order, which is what an ONNX graph is."""

    def __init__(self, network: nn.Module, compute: Callable[[Batch], Tensor], names: Sequence[str]) -> None:
        super().__init__()
        self.network = network  # so that its weights are found
        self.compute = compute
        self.names = list(names)

    def forward(self, *values: Tensor) -> Tensor:
        return self.compute(dict(zip(self.names, values, strict=True)))


def export_onnx(network: nn.Module, example: Batch, file: Path, *, tower: str | None = None) -> None:
    """Write a network in eval mode; its inputs are named after the features, its output is `output`.

    Any number of rows is taken; the other sizes are those of the example.

    Args:
        example: two rows or more of every feature that is needed.
        tower: `user` or `item` writes that tower of a two-tower network, None what `forward` gives.

    Raises:
        ValueError: the example has fewer rows, or onnx and onnxscript are not installed.
    """
    if min(len(value) for value in example.values()) < 2:
        raise ValueError("the example must have two rows or more: a single one would be taken for the only size")
    compute = network.forward if tower is None else getattr(network, f"{tower}_tower")
    was_training = network.training
    names = list(example)
    try:
        module = _ByPlace(network.eval(), compute, names).eval()
        rows = torch.export.Dim("rows", min=1)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            torch.onnx.export(
                module, tuple(example.values()), str(file), input_names=names, output_names=["output"], dynamo=True,
                dynamic_shapes=(tuple({0: rows} for _ in names),), external_data=False, verbose=False,
            )  # fmt: skip
    except ImportError as missing:
        raise ValueError(f"ONNX export needs the package {missing.name}; install genrec[onnx]") from missing
    finally:
        network.train(was_training)
