"""Where a model computes outside of its training, which Lightning places."""

import os

import torch

from genrec.errors import UserError


def device_of(gpus: int) -> torch.device:
    """The device that `trainer.gpus` names: the CPU for 0, else the first GPU, which computes deterministically.

    Raises:
        UserError: torch finds no GPU on this machine.
    """
    if gpus == 0:
        return torch.device("cpu")
    if torch.cuda.is_available():
        # cuBLAS reads it at its first product, and gives no other promise of equal results
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        return torch.device("cuda", 0)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    raise UserError(f"trainer.gpus is {gpus}, but torch finds no GPU on this machine; set it to 0, the CPU")
