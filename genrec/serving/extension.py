"""A package with items that came after training, written beside the one that it is made of."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from genrec.errors import UserError
from genrec.sequences.histories import Histories
from genrec.serving.folder import CURRENT, MANIFEST
from genrec.serving.new_items import NewItems, extended_network, extended_table
from genrec.serving.package import Package
from genrec.serving.packaging import (
    ARGUMENTS,
    CARD,
    EMBEDDINGS,
    HISTORIES,
    ITEMS,
    TABLES,
    TOKENIZER,
    TRANSITIONS,
    WEIGHTS,
    seal,
)
from genrec.storage.files import load_arrays, save_arrays, written
from genrec.storage.output import replaced, write_parquet


def write_extended(package: Package, items: Any, new: NewItems, folder: Path) -> tuple[str, dict[str, bool]]:
    """Write a package with more items into a folder of packages, `folder/<version>`, and let `current` name it.

    Args:
        items: a frame of all items, those of the package first, in the columns of its item table.
        new: what is known of those behind them.

    Returns:
        The version, and of each folder of weights whether its network knows the new items.

    Raises:
        UserError: more items share their codes than can be told apart.
    """
    partial = folder / ".new"
    with replaced(partial) as place:
        shutil.copytree(package.folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST, CARD))
        knows = {name: _extend_network(package, name, new, place / name) for name in package.networks}
        _extend_tables(package, new, place)
        write_parquet(items, place / ITEMS)
        manifest = json.loads((package.folder / MANIFEST).read_text(encoding="utf-8"))
        manifest["n_items"] = len(items)
        seal(place, manifest)
    version: str = manifest["version"]
    if not (folder / version).exists():  # the same items a second time
        partial.rename(folder / version)
    shutil.rmtree(partial, ignore_errors=True)
    with written(folder / CURRENT) as file:
        file.write_text(f"{version}\n", encoding="utf-8")
    return version, {name: known for name, known in knows.items() if name != TOKENIZER}


def _extend_network(package: Package, name: str, new: NewItems, folder: Path) -> bool:
    arguments: Mapping[str, Any] = json.loads((folder / ARGUMENTS).read_text(encoding="utf-8"))
    if arguments.get("n_items") != package.catalogue.n_items:  # the tokenizer, or one that missed earlier ones
        return False
    network = package.load_network(name)
    extended = extended_network(network, package.network_arguments(name), new)
    if extended is None:
        return False
    weights = {key: value.clone().contiguous() for key, value in extended.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(weights))
    grown = {**arguments, "n_items": arguments["n_items"] + len(new.codes)}
    (folder / ARGUMENTS).write_text(json.dumps(grown, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return True


def _extend_tables(package: Package, new: NewItems, folder: Path) -> None:
    n_new, catalogue = len(new.codes), package.catalogue
    histories = replace(catalogue.histories, n_items=catalogue.n_items + n_new)
    Histories.save(histories, folder / HISTORIES)
    vectors = new.embeddings.numpy()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    tables = {
        "codes": extended_table(torch.from_numpy(catalogue.codes), new.codes, package.code_num).numpy(),
        "embeddings": _behind(catalogue.embeddings, vectors / np.maximum(lengths, 1e-12)),
        "popularity": _behind(catalogue.popularity, np.zeros(n_new)),
    }
    save_arrays(tables, folder / TABLES)
    known = load_arrays(folder / TOKENIZER / EMBEDDINGS)["vectors"]
    save_arrays({"vectors": _behind(known, vectors)}, folder / TOKENIZER / EMBEDDINGS)
    if (folder / TRANSITIONS).is_file():
        arrays = load_arrays(folder / TRANSITIONS)
        # no way leads to them or from them
        arrays["starts"] = _behind(arrays["starts"], np.full(n_new, arrays["starts"][-1]))
        save_arrays(arrays, folder / TRANSITIONS)


def _behind(table: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([table, rows.astype(table.dtype)])


def check_new_keys(package: Package, keys: list[str]) -> None:
    """Refuse keys that stand twice or are in the package already.

    Raises:
        UserError: the first of them is named.
    """
    seen = set(package.catalogue.item_ids)
    for key in keys:
        if key in seen:
            raise UserError(f"item {key!r} is in the package already or stands twice; leave it out")
        seen.add(key)
