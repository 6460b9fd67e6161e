"""What a generator proposes to each user: a few items with log-probabilities, which a ranker puts into order."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.errors import UserError
from genrec.storage.output import read_parquet, write_parquet

COLUMNS = ["user_id", "rank", "item_id", "log_prob"]
TARGET = "target"  # only where a user has several


@dataclass(frozen=True)
class Candidates:
    """The lists of one split.

    Attributes:
        items: (n_examples, n) int64 item_ids in the order of the split's examples, best first, 0 where a list is short.
        log_probs: (n_examples, n) float32; -inf where there is no item.
    """

    items: Tensor
    log_probs: Tensor

    def save(self, file: Path, user_ids: NDArray[np.int64]) -> None:
        """Write a row for each item: user_id, rank from 1, item_id, log_prob.

        Where a user has several examples, also `target`, which of them it is, from 1.

        Args:
            user_ids: (n_examples,), ascending.
        """
        examples, places = self.items.nonzero(as_tuple=True)
        columns = [torch.from_numpy(user_ids)[examples], places + 1, self.items[examples, places]]
        frame = pd.DataFrame({name: each.int().numpy() for name, each in zip(COLUMNS, columns, strict=False)})
        frame = frame.assign(log_prob=self.log_probs[examples, places].float().numpy())
        targets = _turns(user_ids)
        if targets.max(initial=1) > 1:
            frame[TARGET] = targets[examples.numpy()].astype(np.int32)
        write_parquet(frame, file)

    @classmethod
    def load(cls, file: Path, user_ids: NDArray[np.int64], n_items: int) -> "Candidates":
        """Read what `save` wrote.

        Args:
            user_ids: (n_examples,), ascending.

        Raises:
            UserError: the file is missing or damaged, or of other users or items.
        """
        frame = read_parquet(file)
        for name, largest in (("user_id", user_ids.max(initial=0)), ("item_id", n_items)):
            found = frame[name].max() if len(frame) else 0
            if found > largest:
                raise UserError(
                    f"{file} has {name} {found}, but the data end at {largest}; run `dvc repro -f generate_candidates`"
                )
        targets = _turns(user_ids)
        size = max(int(targets.max(initial=1)), int(frame.get(TARGET, pd.Series([1])).max())) + 1
        known = user_ids * size + targets
        given = frame["user_id"].to_numpy(np.int64) * size + frame.get(TARGET, 1)
        examples = np.minimum(np.searchsorted(known, given), len(known) - 1)
        if (known[examples] != given).any():
            raise UserError(f"{file} is of another split of the data; run `dvc repro -f generate_candidates`")
        rows = torch.from_numpy(examples), torch.tensor(frame["rank"].to_numpy(np.int64)) - 1
        width = int(frame["rank"].max()) if len(frame) else 1
        items = torch.zeros(len(user_ids), width, dtype=torch.long)
        log_probs = torch.full((len(user_ids), width), -torch.inf)
        items[rows] = torch.tensor(frame["item_id"].to_numpy(np.int64))
        log_probs[rows] = torch.tensor(frame["log_prob"].to_numpy(np.float32))
        return cls(items, log_probs)


def _turns(user_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 (n,), from 1: which of its user's examples each is.

    Example:
        >>> _turns(np.array([3, 5, 5, 8])).tolist()
        [1, 1, 2, 1]
    """
    return 1 + np.arange(len(user_ids)) - np.searchsorted(user_ids, user_ids)
