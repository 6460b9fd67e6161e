"""The settings of a data set: its texts, its sequences, its filters and its random split."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from genrec.data.text_embeddings import item_texts, template_fields


@dataclass(frozen=True)
class TextEncodingConfig:
    """How items become texts, and texts become embeddings.

    Attributes:
        encoder_model: the folder of a sentence-transformers model, or a name that it downloads. The default is of
            TIGER's family (section 4.1: Sentence-T5) and gives the 768 dimensions that RqVae takes by default.
        template: an item's text; see `item_texts`.
        max_length: in tokens.
        device: None takes a GPU if there is one.
        cache_dir: where embeddings are kept; a relative path begins at the data set's root.
        normalize_embeddings: each to length 1.
    """

    encoder_model: str = "sentence-transformers/sentence-t5-base"
    template: str = "Title: {title}; Brand: {brand}; Categories: {categories}; Price: {price}"
    batch_size: int = 32
    max_length: int = 512
    device: str | None = None
    cache_dir: str = "cache/text_embeddings"
    normalize_embeddings: bool = True

    def __post_init__(self) -> None:
        _at_least(self, 1, "batch_size", "max_length")

    def get_cache_key(self, split: str, model_name: str | None = None) -> str:
        """Hex digits that name all that shapes an embedding but the texts and the model's files.

        They are sha256, the same in each process; Python's `hash` of a text is not.

        Example:
            >>> TextEncodingConfig(template="{title}").get_cache_key("beauty")[:16]
            '9d62607b6343daf0'
        """
        parts = [model_name or self.encoder_model, split, self.template, self.max_length, self.normalize_embeddings]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def format_text(self, item_data: Mapping[str, Any]) -> str:
        """The text of one item; what it lacks reads "Unknown".

        Example:
            >>> TextEncodingConfig(template="{title} by {brand}").format_text({"title": "Lacquer"})
            'Lacquer by Unknown'
        """
        fields = template_fields(self.template)
        return item_texts(pd.DataFrame([{name: item_data.get(name) for name in fields}]), self.template)[0]


@dataclass(frozen=True)
class SequenceConfig:
    """How long a user's sequences are, in items.

    Attributes:
        max_seq_length: a history's latest items that a model sees.
        min_seq_length: users with fewer interactions are left out; leave-one-out needs 3.
    """

    max_seq_length: int = 50
    min_seq_length: int = 3

    def __post_init__(self) -> None:
        _at_least(self, 1, "max_seq_length")
        _at_least(self, 3, "min_seq_length")


@dataclass(frozen=True)
class DataProcessingConfig:
    """Which interactions stay, and how items are split at random.

    Attributes:
        remove_duplicates: keep only a user's first interaction with an item.
        train_ratio, val_ratio, test_ratio: the shares of the items; users' sequences are split by leave-one-out.
    """

    min_user_interactions: int = 5
    min_item_interactions: int = 5
    remove_duplicates: bool = True
    train_ratio: float = 0.7
    val_ratio: float = 0.15
    test_ratio: float = 0.15
    random_seed: int = 42

    def __post_init__(self) -> None:
        _at_least(self, 1, "min_user_interactions", "min_item_interactions")
        ratios = (self.train_ratio, self.val_ratio, self.test_ratio)
        if min(ratios) <= 0 or abs(sum(ratios) - 1) > 1e-6:
            raise ValueError(f"train_ratio, val_ratio and test_ratio must be positive and sum to 1, got {ratios}")

    def get_split_indices(self, total_size: int) -> tuple[list[int], list[int], list[int]]:
        """Shuffle 0..total_size - 1 by the seed and cut them by the ratios, each border to the nearest whole number.

        Returns:
            The indices to train on, to validate on and to test on; each index is in one of them.

        Example:
            >>> [len(indices) for indices in DataProcessingConfig().get_split_indices(20)]
            [14, 3, 3]
        """
        order = np.random.default_rng(self.random_seed).permutation(total_size)
        borders = [round(total_size * self.train_ratio), round(total_size * (self.train_ratio + self.val_ratio))]
        train, val, test = np.split(order, borders)
        return train.tolist(), val.tolist(), test.tolist()


@dataclass(frozen=True)
class DatasetConfig:
    """All settings of one data set.

    Attributes:
        root_dir: the folder of its files.
        split: which of the data sets under it, such as a category.
        force_reload: embed the texts again although they are in the cache.
        embeddings_path: a file of item embeddings to take in place of the texts'; see `read_embeddings`.
    """

    root_dir: str
    split: str = "default"
    force_reload: bool = False
    embeddings_path: str | None = None
    text_config: TextEncodingConfig = field(default_factory=TextEncodingConfig)
    sequence_config: SequenceConfig = field(default_factory=SequenceConfig)
    processing_config: DataProcessingConfig = field(default_factory=DataProcessingConfig)


@dataclass(frozen=True)
class P5AmazonConfig(DatasetConfig):
    """The settings of one of P5's Amazon data sets; `split` is its category: beauty, sports or toys."""

    split: str = "beauty"


def _at_least(config: object, minimum: int, *names: str) -> None:
    for name in names:
        if getattr(config, name) < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {getattr(config, name)}")
