"""A model's parameters: how many, how large, frozen or free."""

import warnings
from collections.abc import Sequence
from itertools import chain

from torch import nn

from genrec.layers.initialization import initialize_weights


class ModelUtils:
    """What one asks of any model, or does to it, before training it.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
        >>> ModelUtils.count_parameters(model), ModelUtils.get_model_size(model)
        (11, '0.00 MB')
        >>> ModelUtils.freeze_layers(model, ["0"])
        >>> ModelUtils.count_parameters(model)
        3
    """

    initialize_weights = staticmethod(initialize_weights)

    @staticmethod
    def count_parameters(model: nn.Module) -> int:
        """How many numbers training can change; shared ones count once."""
        return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)

    @staticmethod
    def get_model_size(model: nn.Module) -> str:
        """Parameters and buffers in MB of 1024 * 1024 bytes, such as `1.25 MB`; memory that two share counts once."""
        sizes: dict[int, int] = {}
        for tensor in chain(model.parameters(), model.buffers()):
            address = tensor.data_ptr() or id(tensor)  # on the meta device a tensor has no address
            sizes[address] = max(sizes.get(address, 0), tensor.nbytes)
        return f"{sum(sizes.values()) / 1024**2:.2f} MB"

    @staticmethod
    def freeze_layers(model: nn.Module, layer_names: Sequence[str]) -> None:
        """Keep training from changing these layers.

        Args:
            layer_names: of layers or parameters, whole or from dot to dot: `attention` and `layers.1` match
                `encoder.layers.1.attention.weight`, but `layers.1` does not match `layers.10`. A name without a match
                gives a warning.
        """
        _set_trainable(model, layer_names, False)

    @staticmethod
    def unfreeze_layers(model: nn.Module, layer_names: Sequence[str]) -> None:
        """Let training change these layers again; names as in `freeze_layers`."""
        _set_trainable(model, layer_names, True)


def _set_trainable(model: nn.Module, layer_names: Sequence[str], is_trainable: bool) -> None:
    parameters = list(model.named_parameters(remove_duplicate=False))
    known = [name for name, _ in chain(model.named_modules(remove_duplicate=False), parameters)]
    for layer_name in layer_names:
        if not any(_is_part(layer_name, name) for name in known):
            layers = ", ".join(name for name, _ in model.named_children())
            warnings.warn(f"no layer is named {layer_name!r}; the model has {layers}", stacklevel=3)
        for name, parameter in parameters:
            if _is_part(layer_name, name):
                parameter.requires_grad = is_trainable


def _is_part(layer_name: str, name: str) -> bool:
    return f".{layer_name}." in f".{name}."
