"""A trained model as one file: its constructor's arguments and its weights, nothing that unpickles to code."""

import io
import pickle
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import pytorch_lightning as pl
import torch

from genrec.errors import UserError

M = TypeVar("M", bound=pl.LightningModule)


def save_model(model: pl.LightningModule, file: Path) -> None:
    """Write what `load_model` and Lightning's `load_from_checkpoint` read; equal models give equal bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": version("pytorch-lightning"),
    }
    # through memory: torch writes a file's own name into it, and equal models are to give equal bytes
    buffer = io.BytesIO()
    torch.save(content, buffer)
    file.write_bytes(buffer.getvalue())


def load_model(kind: type[M], file: Path) -> M:
    """Build the model that `save_model` wrote, on the CPU, in eval mode.

    Raises:
        UserError: the file is no checkpoint, or one of another model.
    """
    if not zipfile.is_zipfile(file):
        raise UserError(f"{file} is not a checkpoint of {kind.__name__} (no zip file, or cut short); train it again")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        model = kind(**content["hyper_parameters"])
        model.load_state_dict(content["state_dict"], strict=True)
    except (pickle.UnpicklingError, RuntimeError, KeyError, IndexError, TypeError, ValueError) as mistake:
        reason = str(mistake).splitlines()[0]
        raise UserError(f"{file} is not a checkpoint of {kind.__name__} ({reason}); train it again") from mistake
    return model.eval()
