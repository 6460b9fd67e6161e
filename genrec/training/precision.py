"""What a training computes with on this machine: what `trainer.precision: auto` means, and whether it is portable."""

from typing import Any, Final

import torch
from torch.optim import Optimizer

from genrec.training.lightning import MixedPrecision, Precision
from genrec.training.products import computes_portably

FLOAT32: Final = "32-true"
BFLOAT16: Final = "bf16-mixed"


class Bfloat16(MixedPrecision):
    """Lightning's bf16-mixed, which also clips the gradients of a fused optimizer.

    Lightning refuses to: a fused optimizer divides by the scale of the loss in its own step, after they were clipped.
    A loss in bfloat16 has no scale.
    """

    def __init__(self, gpus: int | list[int]) -> None:
        super().__init__(BFLOAT16, "cuda" if gpus else "cpu")

    def clip_gradients(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        Precision.clip_gradients(self, optimizer, *args, **kwargs)


def resolve_precision(asked: str, gpus: int, portable: bool) -> str:
    """`auto` becomes bf16-mixed where bfloat16 has a unit of its own, 32-true elsewhere; the others stay.

    Without such a unit bfloat16 is many times slower than float32 (docs/LOG.md, "Speed"). What is portable on a CPU
    may not ask which units it has.
    """
    if asked != "auto":
        return asked
    return BFLOAT16 if (_gpu_is_fast() if gpus else not portable and _cpu_is_fast()) else FLOAT32


def precision_figure(asked: str, used: str) -> dict[str, float]:
    """What `auto` came to, beside a training's figures: 1 for bfloat16, 0 for float32; else the parameter tells it."""
    return {"bf16": float(used == BFLOAT16)} if asked == "auto" else {}


def processor_figure() -> dict[str, float]:
    """Whether this process computes as each x86-64 processor with AVX2 does (1), or with all that its own has (0)."""
    return {"portable": float(computes_portably())}


def _gpu_is_fast() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def _cpu_is_fast() -> bool:
    """AMX or AVX512-bf16."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
