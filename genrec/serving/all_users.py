"""Recommendations for all users as a parquet file: a part at a time, so that memory is bounded and a kill costs one."""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from genrec.serving.recommender import Recommender
from genrec.storage.files import disk_troubles_explained, written

USERS_A_PART = 4096
SCHEMA = pa.schema(
    [
        ("user", pa.string()),
        ("rank", pa.int32()),
        ("item", pa.string()),
        ("title", pa.string()),
        ("score", pa.float32()),
    ]
)


def write_all(
    recommender: Recommender, file: Path, k: int, model: str | None, exclude_history: bool, without_last: int
) -> int:
    """Write a row for each recommended item, users in the order of their ids, and say how many.

    Parts lie beside the file until all are there; the same question about the same package goes on after the last.
    Users without a history are left out.

    Raises:
        UserError: the model is not in the package, or the disk is full.
    """
    name = recommender.package.model_named(model).name
    question = [recommender.package.version, name, k, exclude_history, without_last, USERS_A_PART]
    key = hashlib.sha256(json.dumps(question).encode()).hexdigest()[:16]
    parts = file.with_name(f".{file.name}.{key}.parts")
    for left in file.parent.glob(f".{file.name}.*.parts"):
        if left != parts:  # of another question
            shutil.rmtree(left)
    with disk_troubles_explained(file):
        parts.mkdir(parents=True, exist_ok=True)
    starts = range(0, recommender.catalogue.histories.n_users, USERS_A_PART)
    for start in tqdm(starts, desc="users", unit="part", disable=None, file=sys.stderr):
        part = parts / f"{start:012d}.parquet"
        if not part.exists():
            table = _part(recommender, start, k, name, exclude_history, without_last)
            with written(part) as partial:
                pq.write_table(table, partial, compression="zstd")
    with written(file) as partial:
        rows = _concatenate((parts / f"{start:012d}.parquet" for start in starts), partial)
    shutil.rmtree(parts)
    return rows


def _part(
    recommender: Recommender, start: int, k: int, model: str, exclude_history: bool, without_last: int
) -> pa.Table:
    catalogue = recommender.catalogue
    users = np.arange(start, min(start + USERS_A_PART, catalogue.histories.n_users))
    users = users[catalogue.histories.lengths[users] > without_last]
    if not len(users):
        return SCHEMA.empty_table()
    histories = [catalogue.history_of(row, without_last) for row in users.tolist()]
    # those of like length together, as little is padded so
    order = np.argsort([-len(each) for each in histories], kind="stable")
    ranked = recommender.rank([histories[place] for place in order], k, model, exclude_history)
    back = np.argsort(order, kind="stable")
    items, scores = ranked.items.numpy()[back], ranked.log_probs.numpy()[back]
    rows, places = items.nonzero()
    found = items[rows, places]
    columns = [
        [catalogue.user_keys[user] for user in users[rows]],
        places + 1,
        [catalogue.keys[item] for item in found],
        [catalogue.titles[item] for item in found],
        scores[rows, places],
    ]
    return pa.Table.from_arrays(
        [pa.array(each, of.type) for each, of in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def _concatenate(parts: Iterator[Path], file: Path) -> int:
    """One file of the parts, a part in memory at a time; how many rows it has."""
    rows = 0
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for part in parts:
            table = pq.read_table(part, use_threads=False)
            writer.write_table(table)
            rows += len(table)
    return rows
