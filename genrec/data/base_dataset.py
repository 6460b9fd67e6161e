"""A data set by its parts: interactions and items read once, and the views of it that RqVae and Tiger learn from."""

import copy
import os
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from genrec.codes.code_table import build_code_table, to_tokens
from genrec.codes.item_embeddings import check_embeddings
from genrec.data.configs import DatasetConfig
from genrec.data.embeddings import read_embeddings, with_padding_row
from genrec.data.preparation import Prepared, describe, prepare
from genrec.data.text_embeddings import encode_texts, encoding_digest, item_texts
from genrec.sequences.histories import Examples, Histories, Split
from genrec.storage.files import user_path

if TYPE_CHECKING:
    from genrec.models.rqvae import RqVae

SEQUENCE_SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
ITEM_SPLITS = ("train", "val", "test")


class BaseRecommenderDataset(ABC):
    """Interactions and items under one numbering: item_id 1..n_items, 0 is padding.

    A data set of one's own says how to read its two tables; everything else follows from them and the config.
    Nothing is read before it is asked for, and then once.
    """

    config_class: ClassVar[type[DatasetConfig]] = DatasetConfig

    def __init__(self, config: DatasetConfig) -> None:
        self.config = config

    @abstractmethod
    def read_interactions(self) -> pd.DataFrame:
        """All interactions, a row each: user_key str, item_key str, and where known time int64 (whole seconds),
        nanosecond int64 (what a time has beyond its second) and rating float32.

        Without a time, a user's interactions stand in their order.
        """

    @abstractmethod
    def read_items(self, item_keys: pd.Series) -> pd.DataFrame:
        """The item table's rows of these keys, in any order: item_key str, once each, and columns of any kind."""

    @cached_property
    def prepared(self) -> Prepared:
        """Filtered, ordered and numbered interactions."""
        processing = self.config.processing_config
        return prepare(
            self.read_interactions(),
            min_user_interactions=max(processing.min_user_interactions, self.config.sequence_config.min_seq_length),
            min_item_interactions=processing.min_item_interactions,
            repeats="drop" if processing.remove_duplicates else "keep",
            ties="file",
        )

    @property
    def histories(self) -> Histories:
        """Each user's item_ids, oldest first."""
        return self.prepared.histories

    @property
    def n_items(self) -> int:
        return self.histories.n_items

    @cached_property
    def items(self) -> pd.DataFrame:
        """A row an item, in the order of item_ids: item_id, item_key and the item table's columns."""
        numbered = self.prepared.items
        table = self.read_items(numbered["item_key"])
        described, n_without = describe(numbered, table)
        if n_without == len(numbered):
            raise ValueError(
                f"the item table of {self.config.root_dir!r} has none of the {n_without} items, such as item_key"
                f" {numbered['item_key'][0]!r}, but {len(table)} others{_such_as(table)}; it must be that of the same"
                " interactions, its keys spelled alike"
            )
        return described

    @cached_property
    def item_texts(self) -> list[str]:
        """A text an item, in the order of item_ids, after the config's template."""
        return item_texts(self.items, self.config.text_config.template)

    @cached_property
    def item_features(self) -> Tensor:
        """float32 (n_items + 1, dim), row = item_id, row 0 = 0: from the config's file, else of the items' texts."""
        if self.config.embeddings_path is not None:
            file = user_path(self.config.embeddings_path, "embeddings_path")
            return torch.from_numpy(read_embeddings(file, self.prepared.items["item_key"].tolist()))
        return torch.from_numpy(check_embeddings(with_padding_row(self._encoded_texts()), self.n_items, "the encoder"))

    def _encoded_texts(self) -> NDArray[np.float32]:
        """From the cache, unless the config, the model's files or a text has changed."""
        config, text = self.config, self.config.text_config
        digest = encoding_digest(text.get_cache_key(config.split), text.encoder_model, self.item_texts)
        root, cache = user_path(config.root_dir, "root_dir"), user_path(text.cache_dir, "text_config.cache_dir")
        file = root / cache / f"{digest}.npy"
        if config.force_reload or not file.exists():
            embeddings = encode_texts(
                self.item_texts,
                text.encoder_model,
                batch_size=text.batch_size,
                max_length=text.max_length,
                device=text.device,
                normalize=text.normalize_embeddings,
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}.partial")
            with partial.open("wb") as stream:
                np.save(stream, embeddings)
            partial.replace(file)
        cached: NDArray[np.float32] = np.load(file, allow_pickle=False)
        return cached


def _such_as(table: pd.DataFrame) -> str:
    return f", such as {table['item_key'].iloc[0]!r}" if len(table) else ""


class ItemDataset(Dataset[dict[str, Any]]):
    """A sample an item: what RqVae learns from.

    Args:
        split: "all", or the "train", "val" or "test" part of the config's random split of the items.
        return_text: give each item's text beside its features.

    Attributes:
        item_ids: int64 (n_samples,), ascending: which item each sample is.
        features: float32 (n_samples, dim).

    Raises:
        ValueError: no such split, or none of the items falls into it.
    """

    def __init__(self, base_dataset: BaseRecommenderDataset, split: str = "all", return_text: bool = False) -> None:
        self.base_dataset = base_dataset
        self.split = split
        self.return_text = return_text
        self.item_ids = _item_ids(base_dataset, split)
        self.features = base_dataset.item_features[torch.from_numpy(self.item_ids)]
        self.texts = [base_dataset.item_texts[item_id - 1] for item_id in self.item_ids] if return_text else []

    def __len__(self) -> int:
        return len(self.item_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`features` (dim,) float32; with `return_text` also `text`."""
        sample: dict[str, Any] = {"features": self.features[index]}
        if self.return_text:
            sample["text"] = self.texts[index]
        return sample


def _item_ids(base_dataset: BaseRecommenderDataset, split: str) -> NDArray[np.int64]:
    n_items = base_dataset.n_items
    if split == "all":
        return np.arange(1, n_items + 1)
    if split not in ITEM_SPLITS:
        raise ValueError(f"train_test_split of items must be all, train, val or test, got {split!r}")
    rows = base_dataset.config.processing_config.get_split_indices(n_items)[ITEM_SPLITS.index(split)]
    if not rows:
        raise ValueError(f"none of the {n_items} items falls into {split!r}; raise its ratio in processing_config")
    return np.sort(np.array(rows)) + 1


class SequenceDataset(Dataset[dict[str, Tensor]]):
    """A sample a window of a user's history and the item after it, both as tokens: what Tiger learns from.

    Split by leave-one-out: "test" has each user's last item as the target, "val" the last but one, "train" every
    item before those; no window holds an item that a later split asks for.

    With an RqVae, an item is code_length tokens: its code at each level and its collision code, offset so that no two
    positions share a token and 0 is padding alone. Without one, an item is one token, its item_id.

    Attributes:
        code_table: int32 (n_items + 1, code_length), row 0 = -1; without an RqVae an item's one code is item_id - 1.
        item_tokens: int64 (n_items + 1, code_length), the tokens of each item_id, row 0 = 0.
        vocab_size: one more than the largest token that there can be.

    Raises:
        ValueError: no such split, no window in it, or item features that the RqVae was not made for.
    """

    def __init__(
        self, base_dataset: BaseRecommenderDataset, split: str = "train", semantic_encoder: "RqVae | None" = None
    ) -> None:
        self.base_dataset = base_dataset
        if semantic_encoder is None:
            code_num = base_dataset.n_items
            self.code_table = torch.arange(-1, code_num, dtype=torch.int32)[:, None]
        else:
            code_num = int(semantic_encoder.hparams["num_embeddings"])
            self.code_table = build_code_table(_semantic_codes(base_dataset, semantic_encoder), code_num)
        self.item_tokens = to_tokens(self.code_table, code_num)
        self.vocab_size = 1 + self.code_length * code_num
        self.split = split
        self.examples = _windows(base_dataset, split)

    @property
    def n_items(self) -> int:
        return self.base_dataset.n_items

    @property
    def code_length(self) -> int:
        """How many tokens an item has."""
        return self.code_table.shape[1]

    def for_split(self, split: str) -> Self:
        """The same data set with the windows of another split; nothing is encoded again."""
        other = copy.copy(self)
        other.split = split
        other.examples = _windows(self.base_dataset, split)
        return other

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Tokens of one window, unpadded.

        Returns:
            `input_ids` (n * code_length,) int64, the history's tokens, oldest item first; `labels` (code_length,)
            int64, the target's; `attention_mask` (n * code_length,) float32, all ones.
        """
        items = self.base_dataset.histories.items
        start, end = int(self.examples.starts[index]), int(self.examples.ends[index])
        input_ids = self.item_tokens[torch.from_numpy(items[start:end])].flatten()
        return {
            "input_ids": input_ids,
            "labels": self.item_tokens[int(items[end])],
            "attention_mask": torch.ones(len(input_ids)),
        }


def _semantic_codes(base_dataset: BaseRecommenderDataset, encoder: "RqVae") -> Tensor:
    """(n_items, num_levels) int64."""
    features, input_dim = base_dataset.item_features[1:], encoder.hparams["input_dim"]
    if features.shape[1] != input_dim:
        raise ValueError(
            f"the RqVae takes {input_dim} features, but the items have {features.shape[1]};"
            " give the text_config or embeddings_path that it was trained with"
        )
    return encoder.semantic_codes(features.to(encoder.device)).cpu()


def _windows(base_dataset: BaseRecommenderDataset, split: str) -> Examples:
    if split not in SEQUENCE_SPLITS:
        raise ValueError(f"train_test_split of sequences must be train, val or test, got {split!r}")
    examples = base_dataset.histories.examples(SEQUENCE_SPLITS[split])
    if not len(examples):
        raise ValueError(f"no history is long enough for a window of {split!r}; 4 interactions give the first to train")
    return examples.cut(base_dataset.config.sequence_config.max_seq_length)
