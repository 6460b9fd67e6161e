"""Raw files to interactions, id maps, histories and batches; the names here are for users and load when asked for."""

from importlib import import_module
from typing import Any

_HOMES = {
    "BaseRecommenderDataset": "base_dataset",
    "DataProcessingConfig": "configs",
    "DatasetConfig": "configs",
    "DatasetFactory": "dataset_factory",
    "ItemDataset": "base_dataset",
    "P5AmazonConfig": "configs",
    "P5AmazonDataset": "p5_amazon",
    "P5AmazonItemDataset": "p5_amazon",
    "P5AmazonSequenceDataset": "p5_amazon",
    "SequenceConfig": "configs",
    "SequenceDataset": "base_dataset",
    "TextEncodingConfig": "configs",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """The class of a public name, from the module that owns it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
