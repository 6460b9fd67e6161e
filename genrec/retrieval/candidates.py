"""What a generator proposes to each user: a few items with log-probabilities, which a ranker puts into order."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genrec.errors import UserError
from genrec.storage.output import read_parquet, write_parquet

COLUMNS = ["user_id", "rank", "item_id", "log_prob"]


@dataclass(frozen=True)
class Candidates:
    """The lists of one split.

    Attributes:
        items: (n_users, n) int64 item_ids in the order of user_ids, best first, 0 where a list is short.
        log_probs: (n_users, n) float32; -inf where there is no item.
    """

    items: Tensor
    log_probs: Tensor

    def save(self, file: Path) -> None:
        """Write a row for each item: user_id, rank from 1, item_id, log_prob."""
        users, places = self.items.nonzero(as_tuple=True)
        columns = [users + 1, places + 1, self.items[users, places]]
        frame = pd.DataFrame({name: each.int().numpy() for name, each in zip(COLUMNS, columns, strict=False)})
        write_parquet(frame.assign(log_prob=self.log_probs[users, places].float().numpy()), file)

    @classmethod
    def load(cls, file: Path, n_users: int, n_items: int) -> "Candidates":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing or damaged, or of other users or items.
        """
        frame = read_parquet(file)
        for name, largest in (("user_id", n_users), ("item_id", n_items)):
            found = frame[name].max() if len(frame) else 0
            if found > largest:
                raise UserError(
                    f"{file} has {name} {found}, but the data end at {largest}; run `dvc repro -f generate_candidates`"
                )
        rows = tuple(torch.tensor(frame[name].to_numpy(np.int64)) - 1 for name in ("user_id", "rank"))
        width = int(frame["rank"].max()) if len(frame) else 1
        items = torch.zeros(n_users, width, dtype=torch.long)
        log_probs = torch.full((n_users, width), -torch.inf)
        items[rows] = torch.tensor(frame["item_id"].to_numpy(np.int64))
        log_probs[rows] = torch.tensor(frame["log_prob"].to_numpy(np.float32))
        return cls(items, log_probs)
