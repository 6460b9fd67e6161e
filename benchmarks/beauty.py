"""Histories as long as those of Amazon 2014 Beauty (22,363 users, 12,101 items), and catalogues of any size.

The data set itself is used where BEAUTY names its file, a `user item item ...` a line, gzipped; otherwise lengths are
drawn from a distribution of the same mean.
"""

import gzip
import os
from functools import cache
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from genrec.codes.code_table import build_code_table
from genrec.sequences.batches import GROUPED_BATCHES
from genrec.sequences.histories import Examples, Histories

N_USERS, N_ITEMS = 22_363, 12_101
SHORTEST, TAIL, LONGEST = 5, 4.3, 204
CODES, LEVELS = 256, 3


@cache
def histories() -> Histories:
    file = os.environ.get("BEAUTY")
    return drawn_histories() if not file else read_histories(file)


def read_histories(file: str) -> Histories:
    items: list[int] = []
    offsets = [0]
    with gzip.open(file, "rt") as lines:
        for line in lines:
            items += map(int, line.split()[1:])
            offsets.append(len(items))
    return Histories(np.array(items, np.int32), np.array(offsets), n_items=max(items))


def drawn_histories() -> Histories:
    """Five items a user and a heavy tail: as on Beauty half of the users have five or six, and windows 6.7 items."""
    random = np.random.default_rng(0)
    # a Pareto distribution of shape 2 has the mean 1
    lengths = np.minimum(SHORTEST + (TAIL * random.pareto(2, N_USERS)).astype(int), LONGEST)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Histories(random.integers(1, N_ITEMS, offsets[-1], np.int32, endpoint=True), offsets, N_ITEMS)


def evaluation_batches(max_history: int, n_batches: int, n_users: int) -> list[Tensor]:
    """Histories as the evaluation forms its batches, users of like length together; at equal steps of their order."""
    examples = histories().examples("test").cut(max_history)
    order = np.argsort(-examples.lengths, kind="stable")
    n_all = len(order) // n_users
    starts = [(2 * i + 1) * n_all // (2 * n_batches) * n_users for i in range(n_batches)]
    return [_padded(examples.take(order[start : start + n_users])) for start in starts]


def users_in_any_order(max_history: int, n_users: int) -> Tensor:
    """Histories of random test users, padded to the longest."""
    examples = histories().examples("test").cut(max_history)
    return _padded(examples.take(np.random.default_rng(0).permutation(len(examples))[:n_users]))


def _padded(examples: Examples) -> Tensor:
    return torch.from_numpy(histories().padded(examples)).long()


def spread(loader: DataLoader[dict[str, Tensor]], n: int) -> list[dict[str, Tensor]]:
    """n batches that stand for an epoch: of as many as are grouped together, those at equal steps of their length."""
    batches = sorted(islice(loader, GROUPED_BATCHES), key=lambda batch: batch["history"].shape[1])
    return [batches[(2 * i + 1) * len(batches) // (2 * n)] for i in range(n)]


def code_table(n_items: int = N_ITEMS) -> Tensor:
    """Random codes of three levels and the collision code, (n_items + 1, 4)."""
    codes = torch.randint(0, CODES, (n_items, LEVELS), generator=torch.Generator().manual_seed(0))
    return build_code_table(codes, CODES)
