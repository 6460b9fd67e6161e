"""The training loops: one BaseTrainer and its family; the names here are for users and load when asked for."""

from importlib import import_module
from typing import Any

_HOMES = {
    "BaseTrainer": "training.base",
    "CTRTrainer": "ranking.ctr_trainer",
    "ETEGRecTrainer": "models.etegrec.trainer",
    "ETEGRecTrainingConfig": "models.etegrec.trainer",
    "MTLTrainer": "ranking.mtl_trainer",
    "MatchTrainer": "towers.match_trainer",
    "RQVAETrainer": "trainers.rqvae",
    "RQVAETrainingConfig": "trainers.rqvae",
    "TIGERTrainer": "trainers.tiger",
    "TIGERTrainingConfig": "trainers.tiger",
    "TrainingConfig": "training.config",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """The class of a public name, from the module that owns it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"genrec.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
