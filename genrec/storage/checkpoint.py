"""A trained model as a file, or as a folder for other programs: its arguments and weights, no pickled code."""

import io
import json
import pickle  # nosec B403
import sys
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genrec.errors import UserError
from genrec.storage.files import written

M = TypeVar("M", bound=pl.LightningModule)

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(model: pl.LightningModule, file: Path) -> None:
    """Write what `load_model` and Lightning's `load_from_checkpoint` read; equal models give equal bytes."""
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": version("pytorch-lightning"),
    }
    write_checkpoint(content, file)


def write_checkpoint(content: Mapping[str, Any], file: Path) -> None:
    """Write a file for `torch.load(..., weights_only=True)`, whole or not at all."""
    # through memory: torch writes a file's own name into it, and equal content is to give equal bytes
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with written(file) as partial:
        partial.write_bytes(buffer.getvalue())


def read_own_checkpoint(file: Path) -> dict[str, Any] | None:
    """What `write_checkpoint` wrote into a scratch folder, on the CPU.

    None where there is nothing to go on from: no file, or a damaged one, as a power cut may leave it. That is said on
    stderr, and the file goes away.
    """
    if not file.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, OSError) as damage:
        reason = next(iter(str(damage).splitlines()), type(damage).__name__)
        sys.stderr.write(f"{file} is damaged ({reason}); its training starts anew\n")
        file.unlink()
        return None
    return content


def refuse_another_network(model: nn.Module, weights: Mapping[str, Tensor], file: Path) -> None:
    """Say in one line that a run's weights are of another network; torch's own message lists every tensor.

    Args:
        weights: what `model.state_dict()` was, as `file` holds it.

    Raises:
        UserError: a tensor is missing on one side, or has another shape.
    """
    own, theirs = ({name: tuple(value.shape) for name, value in each.items()} for each in (model.state_dict(), weights))
    different = sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
    if different:
        name = different[0]
        raise UserError(
            f"{file} is the run of another network, {len(different)} of its tensors differ: {name} is "
            f"{theirs.get(name, 'absent')} there and {own.get(name, 'absent')} here; start anew with resume=False, or "
            "in another folder"
        )


def load_model(kind: type[M], file: Path, **expected: int) -> M:
    """Build the model that `save_model` wrote, on the CPU, in eval mode.

    Args:
        expected: arguments of the model's constructor that follow from what it is to be used with.

    Raises:
        UserError: the file is no checkpoint, or one of another model, or was trained with other arguments.
    """
    if not file.is_file():
        raise UserError(f"{file} not found; run `dvc repro`, which trains {kind.__name__}")
    if not zipfile.is_zipfile(file):
        raise UserError(f"{file} is not a checkpoint of {kind.__name__} (no zip file, or cut short); train it again")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        model = kind(**content["hyper_parameters"])
        model.load_state_dict(content["state_dict"], strict=True)
    except (pickle.UnpicklingError, RuntimeError, KeyError, IndexError, TypeError, ValueError) as mistake:
        reason = str(mistake).splitlines()[0]
        raise UserError(f"{file} is not a checkpoint of {kind.__name__} ({reason}); train it again") from mistake
    for name, value in expected.items():
        if content["hyper_parameters"].get(name) != value:
            raise UserError(
                f"{file} was trained with {name}={content['hyper_parameters'].get(name)}, but its data have "
                f"{name}={value}; train it again"
            )
    return model.eval()


def save_folder(model: pl.LightningModule, folder: Path) -> None:
    """Write what `load_folder` reads: config.json (the constructor's arguments) and model.safetensors (the weights).

    Other programs can read both without this project and without torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(dict(model.hparams), indent=2) + "\n", encoding="utf-8")


def load_folder(kind: type[M], folder: Path) -> M:
    """Build the model that `save_folder` wrote, on the CPU, in eval mode.

    Raises:
        UserError: the folder lacks one of the two files, or holds another model.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder} must hold {CONFIG} and {WEIGHTS}, and has no {name}; save the model there first")
    try:
        model = kind(**json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        model.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as mistake:
        reason = str(mistake).splitlines()[0]
        raise UserError(f"{folder} holds no {kind.__name__} ({reason}); save the model again") from mistake
    return model.eval()
