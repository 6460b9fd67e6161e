"""ETEGRec: the module that is trained, its alignments, its trainer; the names here load when asked for."""

from importlib import import_module
from typing import Any

_HOMES = {"ETEGRec": "module", "ETEGRecTrainer": "trainer", "ETEGRecTrainingConfig": "trainer"}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """A public name, from the file that owns it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
