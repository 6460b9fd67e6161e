"""How a model's weights start."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

INITIALIZERS: dict[str, Callable[[Tensor], object]] = {
    "xavier": nn.init.xavier_uniform_,
    "kaiming": nn.init.kaiming_uniform_,
    "normal": lambda weight: nn.init.normal_(weight, std=0.02),
}


def initialize_weights(model: nn.Module, init_type: str = "xavier") -> None:
    """Draw all weights of two and more dimensions, in the order of `named_parameters`, and set all biases to 0.

    Weights of one dimension, the gains of normalisation layers, stay as they are; the padding row of an embedding
    becomes 0.

    Args:
        init_type: `xavier` (Glorot and Bengio 2010) or `kaiming` (He et al. 2015), both uniform, or `normal`, of
            standard deviation 0.02.

    Example:
        >>> model = nn.Sequential(nn.Embedding(9, 4, padding_idx=0), nn.LayerNorm(4), nn.Linear(4, 2))
        >>> initialize_weights(model, "normal")
        >>> model[0].weight[0].tolist(), model[1].weight.tolist(), model[2].bias.tolist()
        ([0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0])
    """
    if init_type not in INITIALIZERS:
        raise ValueError(f"init_type must be one of {tuple(INITIALIZERS)}, got {init_type!r}")
    for name, parameter in model.named_parameters():
        kind = name.rpartition(".")[2]
        if "weight" in kind and parameter.ndim > 1:
            INITIALIZERS[init_type](parameter)
        elif "bias" in kind:
            nn.init.zeros_(parameter)
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx] = 0
