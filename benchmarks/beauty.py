"""Histories as long as those of Amazon 2014 Beauty (22,363 users, 12,101 items), and catalogues of any size.

The data set itself is used where BEAUTY names its file, a `user item item ...` a line, gzipped; otherwise lengths are
drawn from a distribution of the same mean.
"""

import gzip
import os
from functools import cache

import numpy as np
import torch
from torch import Tensor

from genrec.code_table import build_code_table
from genrec.data.histories import Histories

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


def code_table(n_items: int = N_ITEMS) -> Tensor:
    """Random codes of three levels and the collision code, (n_items + 1, 4)."""
    codes = torch.randint(0, CODES, (n_items, LEVELS), generator=torch.Generator().manual_seed(0))
    return build_code_table(codes, CODES)
