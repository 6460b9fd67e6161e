"""From interactions to histories: order, 5-core, ids, statistics; a million rows, and twenty."""

from functools import partial

import numpy as np
import pandas as pd

from benchmarks.harness import Case, Turn
from genrec.data.preparation import prepare


def ours(n_rows: int) -> Turn:
    random = np.random.default_rng(0)
    users = random.integers(0, n_rows // 10, n_rows)
    # a few items are most of what is read
    items = (n_rows // 20 * random.random(n_rows) ** 3).astype(np.int64)  # nosec B311
    frame = pd.DataFrame(
        {
            "user_key": pd.Series(users).astype(str).astype("str"),
            "item_key": pd.Series(items).astype(str).astype("str"),
            "time": random.integers(0, 10**9, n_rows),
        }
    )

    def turn() -> float:
        prepare(frame, min_user_interactions=5, min_item_interactions=5, repeats="keep", ties="file")
        return n_rows

    return turn


CASES = [
    Case("preparation of 1 M interactions", "interactions", {"genrec": partial(ours, 1_000_000)}),
    Case("preparation of 20 M interactions", "interactions", {"genrec": partial(ours, 20_000_000)}),
]
