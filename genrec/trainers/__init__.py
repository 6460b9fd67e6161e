"""The training loops: one BaseTrainer and its family; the names here are for users and load when asked for."""

from importlib import import_module
from typing import Any

_HOMES = {
    "BaseTrainer": "base",
    "CTRTrainer": "ctr",
    "ETEGRecTrainer": "etegrec",
    "ETEGRecTrainingConfig": "etegrec",
    "MTLTrainer": "mtl",
    "MatchTrainer": "match",
    "RQVAETrainer": "rqvae",
    "RQVAETrainingConfig": "rqvae",
    "TIGERTrainer": "tiger",
    "TIGERTrainingConfig": "tiger",
    "TrainingConfig": "config",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """The class of a public name, from the module that owns it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
