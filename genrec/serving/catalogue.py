"""The items and users of a package by the source's own keys, what is known of items, and which are like which.

Only numpy: a program that answers from these tables starts without torch.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.errors import UserError
from genrec.sequences.histories import Histories
from genrec.serving.packaging import HISTORIES, ITEMS, TABLES, USERS
from genrec.storage.files import load_arrays

AGAIN = "run `dvc repro -f package`"
# where item tables keep what people call an item, the likeliest first
TITLES = ("title", "movie_title", "name", "product_name")


@dataclass(frozen=True)
class Catalogue:
    """All tables have a row for each item_id, row 0 is padding.

    Attributes:
        keys: the source's keys of items; "" for padding.
        titles: what people call them, "" where that is not known.
        codes: int (n_items + 1, code_length), semantic IDs.
        embeddings: float16 (n_items + 1, dim), rows of length 1.
        popularity: int64 (n_items + 1,), interactions in training.
        user_keys: the source's keys of users, in the order of user_ids.
    """

    keys: Sequence[str]
    titles: Sequence[str]
    codes: NDArray[np.int32]
    embeddings: NDArray[np.float16]
    popularity: NDArray[np.int64]
    user_keys: Sequence[str]
    histories: Histories

    @classmethod
    def load(cls, folder: Path) -> "Catalogue":
        """Read the tables of a package.

        Raises:
            UserError: a table is missing, damaged, or of another catalogue.
        """
        histories, tables = Histories.load(folder / HISTORIES), load_arrays(folder / TABLES, AGAIN)
        if {"codes", "embeddings", "popularity"} - tables.keys():
            raise UserError(f"{folder / TABLES} must hold codes, embeddings and popularity, got {', '.join(tables)}")
        items, users = _read_columns(folder / ITEMS), _read_columns(folder / USERS)
        for name, rows in {
            "item_key": len(items["item_key"]) + 1,
            **{name: len(each) for name, each in tables.items()},
        }.items():
            if rows != histories.n_items + 1:
                raise UserError(
                    f"{folder}: {name} has {rows} rows, but the histories are of {histories.n_items} items; {AGAIN}"
                )
        if len(users["user_key"]) != histories.n_users:
            raise UserError(f"{folder}: {len(users['user_key'])} users, but {histories.n_users} histories; {AGAIN}")
        title = next((name for name in TITLES if name in items), None)
        titles = [""] * len(items["item_key"]) if title is None else [each or "" for each in items[title]]
        keys = ["", *map(str, items["item_key"])]
        return cls(
            keys, ["", *map(str, titles)], tables["codes"], tables["embeddings"], tables["popularity"],
            [str(key) for key in users["user_key"]], histories,
        )  # fmt: skip

    @property
    def n_items(self) -> int:
        return self.histories.n_items

    @cached_property
    def item_ids(self) -> Mapping[str, int]:
        """Key to item_id."""
        return {key: item_id for item_id, key in enumerate(self.keys) if item_id}

    @cached_property
    def user_rows(self) -> Mapping[str, int]:
        """Key to the row of `histories`, user_id - 1."""
        return {key: row for row, key in enumerate(self.user_keys)}

    def history_of(self, row: int, without_last: int = 0) -> NDArray[np.int32]:
        """What a user did, oldest first, as if the last interactions had not happened yet."""
        start, end = self.histories.offsets[row], self.histories.offsets[row + 1]
        return self.histories.items[start : max(start, end - without_last)]

    def ids_of(self, keys: Sequence[str]) -> tuple[NDArray[np.int32], list[str]]:
        """The item_ids of the keys that are known, in their order, and the keys that are not."""
        known = [self.item_ids[key] for key in keys if key in self.item_ids]
        return np.array(known, np.int32), [key for key in keys if key not in self.item_ids]

    def described(self, item_id: int) -> dict[str, Any]:
        """What an answer says of an item: key, title, semantic ID."""
        return {
            "item": self.keys[item_id],
            "title": self.titles[item_id],
            "semantic_id": self.codes[item_id].tolist(),
        }

    def nearest(self, items: NDArray[np.integer], history: NDArray[np.integer]) -> NDArray[np.int64]:
        """For each item the one of a history that is most like it, by the cosine of embeddings; the latest of equals.

        Args:
            items: (n,) item_ids.
            history: (length,) item_ids, oldest first, not empty.
        """
        latest_first = history[::-1]
        likeness = self.embeddings[items].astype(np.float32) @ self.embeddings[latest_first].astype(np.float32).T
        return latest_first[likeness.argmax(1)].astype(np.int64)

    def shared_levels(self, item_id: int) -> NDArray[np.int64]:
        """(n_items + 1,): how many codes from the first on each item shares with this one."""
        return np.cumprod(self.codes == self.codes[item_id], axis=1).sum(1)

    def similar(self, item_id: int, k: int) -> list[dict[str, Any]]:
        """The items that share the longest prefixes with one, of equal prefixes the nearest embeddings first."""
        shared = self.shared_levels(item_id)
        likeness = self.embeddings.astype(np.float32) @ self.embeddings[item_id].astype(np.float32)
        order = np.lexsort((-likeness, -shared))  # stable: of equals the lower item_id first
        chosen = order[(order != 0) & (order != item_id)][:k]
        return [
            {
                **self.described(int(other)),
                "shared_levels": int(shared[other]),
                "cosine": round(float(likeness[other]), 4),
            }
            for other in chosen
        ]

    def find(self, words: str, n: int) -> list[dict[str, Any]]:
        """The items in whose titles or keys all the words stand, the most popular first; all items for no words."""
        folded = [_folded(word) for word in words.split()]
        there = [
            item_id for item_id, text in enumerate(self._texts) if item_id and all(word in text for word in folded)
        ]
        there.sort(key=lambda item_id: -int(self.popularity[item_id]))
        return [{**self.described(each), "popularity": int(self.popularity[each])} for each in there[:n]]

    @cached_property
    def _texts(self) -> list[str]:
        return [_folded(f"{title} {key}") for title, key in zip(self.titles, self.keys, strict=True)]


def _folded(text: str) -> str:
    """Without case and accents.

    Example:
        >>> _folded("Amélie")
        'amelie'
    """
    return "".join(char for char in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(char))


def _read_columns(file: Path) -> dict[str, list[Any]]:
    """A table's columns, without pandas, whose import would take a third of a command's time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.is_file():
        raise UserError(f"{file} not found; {AGAIN}")
    try:
        with pq.ParquetFile(file) as stream:  # read_table imports pandas
            table = stream.read(use_threads=False)
    except (pa.ArrowException, OSError) as damage:
        raise UserError(f"{file} cannot be read ({str(damage).splitlines()[0]}); {AGAIN}") from None
    wanted = ("item_key", "user_key", *TITLES)
    return {name: table[name].to_pylist() for name in table.column_names if name in wanted}
