"""A small data set in P5's files, and an encoder of texts that needs no language model."""

import gzip
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

N_USERS, N_ITEMS, LENGTH = 8, 8, 6
# user 1 has items 1..6, user 2 items 2..7, ... user 8 items 8, 1..5: each item has six users
HISTORIES = {user: [(user - 1 + step) % N_ITEMS + 1 for step in range(LENGTH)] for user in range(1, N_USERS + 1)}


def asin(item: int) -> str:
    return f"B00{item}"


def metadata() -> list[dict[str, Any]]:
    """An object an item in Amazon's order, not P5's: item 1 has no brand; the last is not in the data set."""
    items: list[dict[str, Any]] = [
        {
            "asin": asin(item),
            "title": f"Lacquer {item}",
            "brand": f"Brand {item % 3}",
            "categories": [["Beauty", "Nails"], ["Beauty", "Gifts"]],
            "price": item + 0.5,
        }
        for item in range(N_ITEMS, 0, -1)
    ]
    del items[-1]["brand"]
    return [*items, {"asin": "B999", "title": "Wrench", "categories": [["Tools"]]}]


def write_p5(
    root: Path,
    histories: Mapping[int, Sequence[int]] | None = None,
    split: str = "beauty",
    items: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Write root/raw/<split>/ as P5's archive has it; the metadata in Python's literals, as Amazon's of 2014 are."""
    histories = histories or HISTORIES
    folder = root / "raw" / split
    folder.mkdir(parents=True)
    lines = [" ".join(map(str, [user, *items])) for user, items in histories.items()]
    (folder / "sequential_data.txt").write_text("\n".join(lines) + "\n")
    numbers = sorted({item for items in histories.values() for item in items})
    (folder / "datamaps.json").write_text(
        json.dumps(
            {
                "user2id": {f"A{user}": str(user) for user in histories},
                "item2id": {asin(item): str(item) for item in numbers},
                "id2user": {str(user): f"A{user}" for user in histories},
                "id2item": {str(item): asin(item) for item in numbers},
            }
        )
    )
    write_metadata(folder, metadata() if items is None else items)
    return root


def write_metadata(folder: Path, items: Sequence[Mapping[str, Any]]) -> None:
    (folder / "meta.json.gz").write_bytes(gzip.compress("".join(f"{item!r}\n" for item in items).encode()))


class FakeEncoder:
    """Stands in for `SentenceTransformer`: an embedding is drawn from the text's sha256.

    Attributes:
        encoded: the texts of each call of `encode`, over all encoders.
        made: the arguments of each encoder.
    """

    dim = 768
    encoded: list[list[str]]
    made: list[tuple[str, str | None]]

    def __init__(self, model: str, device: str | None = None) -> None:
        if "no-such" in model:
            raise OSError(f"{model} is not a local folder\nand is not a valid model identifier")
        self.made.append((model, device))
        self.max_seq_length = 256

    def encode(self, texts: list[str], **options: Any) -> np.ndarray:
        self.encoded.append(texts)
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
        vectors = np.stack([np.random.default_rng(seed).standard_normal(self.dim) for seed in seeds])
        if options["normalize_embeddings"]:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)


def install_fake_encoder(monkeypatch: pytest.MonkeyPatch) -> type[FakeEncoder]:
    """Put a module sentence_transformers with a fresh `FakeEncoder` in the place of the real one."""
    encoder = type("FakeEncoder", (FakeEncoder,), {"encoded": [], "made": []})
    module = ModuleType("sentence_transformers")
    module.SentenceTransformer = encoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    return encoder
