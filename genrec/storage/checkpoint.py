"""A trained model as a file, or as a folder for other programs: its arguments and weights, no pickled code."""

import inspect
import io
import json
import pickle  # nosec B403
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genrec.errors import UserError
from genrec.storage.files import written

M = TypeVar("M", bound=nn.Module)

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Saveable(Protocol):
    """A module that knows the arguments of its constructor; Lightning's do, by `save_hyperparameters`."""

    @property
    def hparams(self) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...


def save_model(model: Saveable, file: Path) -> None:
    """Write what `load_model` and Lightning's `load_from_checkpoint` read; equal models give equal bytes."""
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": _with_keys_once(model.hparams),
        "pytorch-lightning_version": version("pytorch-lightning"),
    }
    write_checkpoint(content, file)


def _with_keys_once(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The same mapping, in which equal keys are one object: pickle writes equal texts of two objects twice."""
    return {
        sys.intern(name): _with_keys_once(value) if isinstance(value, Mapping) else value
        for name, value in arguments.items()
    }


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


def network_arguments(kind: type[nn.Module], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Of the arguments of a trained module those that its network takes: no learning rate, no loss."""
    taken = inspect.signature(kind).parameters
    return {name: value for name, value in arguments.items() if name in taken}


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
    """Build the model that `save_model` wrote, or its network alone, on the CPU, in eval mode.

    Args:
        kind: the class that was saved, or the network that it extends.
        expected: arguments of the model's constructor that follow from what it is to be used with.

    Raises:
        UserError: the file is no checkpoint, or one of another model, or was trained with other arguments.
    """
    with _checkpoint_of(kind.__name__.removesuffix("Network"), file) as content:
        arguments: Mapping[str, Any] = content["hyper_parameters"]
        model = kind(**network_arguments(kind, arguments))
        model.load_state_dict(content["state_dict"], strict=True)
    for name, value in expected.items():
        if arguments.get(name) != value:
            raise UserError(
                f"{file} was trained with {name}={arguments.get(name)}, but its data have {name}={value}; "
                "train it again"
            )
    return model.eval()


def load_arguments(file: Path) -> dict[str, Any]:
    """The arguments of the constructor of the model that `save_model` wrote.

    Raises:
        UserError: the file is no checkpoint.
    """
    with _checkpoint_of("a model", file) as content:
        return dict(content["hyper_parameters"])


@contextmanager
def _checkpoint_of(name: str, file: Path) -> Iterator[dict[str, Any]]:
    """The content of a checkpoint; what fails of reading it, or in the block, is said in one line."""
    if not file.is_file():
        raise UserError(f"{file} not found; run `dvc repro`, which trains {name}")
    if not zipfile.is_zipfile(file):
        raise UserError(f"{file} is not a checkpoint of {name} (no zip file, or cut short); train it again")
    try:
        yield torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, KeyError, IndexError, TypeError, ValueError) as mistake:
        reason = str(mistake).splitlines()[0]
        raise UserError(f"{file} is not a checkpoint of {name} ({reason}); train it again") from mistake


def save_folder(model: Saveable, folder: Path) -> None:
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
