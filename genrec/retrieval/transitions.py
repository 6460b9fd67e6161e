"""A memory of transitions: which items stood near which in the histories that models learn from, counted exactly.

Letters: b batch, t last items, n entries of their rows.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from genrec.errors import UserError
from genrec.retrieval.pair_counts import PairCounter
from genrec.sequences.histories import Histories
from genrec.storage.files import load_arrays, save_arrays


class Rows(NamedTuple):
    """A sparse table (n_items + 1, n_items + 1): row i has the entries from starts[i] to starts[i + 1].

    Attributes:
        starts: (n_items + 2,) int64.
        columns: (n_entries,) int32.
        weights: (n_entries,) float32.
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    weights: NDArray[np.float32]


class Transitions(nn.Module):
    """A distribution over the next item, by the rows of the history's last items.

    Args:
        rows: row = the item that stands in the history; it may be most of the memory and is not copied.
        num_items: how many of the last items have a say.
        decay: the weight of an item beside that of the one after it.
    """

    starts: Tensor
    columns: Tensor
    weights: Tensor

    def __init__(self, rows: Rows, num_items: int, decay: float) -> None:
        super().__init__()
        self.n_items = len(rows.starts) - 2
        self.num_items = num_items
        self.decay = decay
        for name, array in rows._asdict().items():
            self.register_buffer(name, torch.from_numpy(array))

    @classmethod
    def fit(
        cls,
        items: NDArray[np.int32],
        offsets: NDArray[np.int64],
        n_items: int,
        *,
        window: int = 10,
        backward: float = 0.25,
        power: float = 0.3,
        num_items: int = 10,
        decay: float = 0.5,
    ) -> "Transitions":
        """Count the pairs of a user's items within `window` steps, each as one over its steps.

        Args:
            items, offsets: flat histories, as in `Histories`.
            backward: the weight of a pair against the order of time.
            power: a row is divided by its sum to this power: 1 gives frequent and rare items an equal say, 0 gives
                each as much as it was taken.
        """
        histories = Histories(items, offsets, n_items)
        counter = PairCounter(lambda: [histories], n_items, window)
        return cls.counted(counter, backward=backward, power=power, num_items=num_items, decay=decay)

    @classmethod
    def counted(
        cls, counter: PairCounter, *, backward: float, power: float, num_items: int, decay: float
    ) -> "Transitions":
        """As `fit`, of what a counter counts; above what is returned it needs memory for some rows alone."""
        items = np.arange(counter.n_items + 1)
        rows = (counts.weighed(backward, power) for counts in counter.of_items(items))
        return cls(joined(rows, items, counter.n_items, int(counter.n_pairs.sum())), num_items, decay)

    def forward(self, history: Tensor) -> Tensor:
        """Probabilities (b, n_items + 1), column = item_id; a history of unknown items has zeros.

        Args:
            history: (b, t) item_ids, 0 = padding, on either side.
        """
        recency = (history != 0).flip(1).cumsum(1).flip(1) - 1  # how many items follow
        has_say = (history != 0) & (recency < self.num_items)
        users, places = has_say.nonzero(as_tuple=True)
        items, say = history[users, places], self.decay ** recency[users, places].float()
        first, length = self.starts[items], self.starts[items + 1] - self.starts[items]
        of = torch.repeat_interleave(torch.arange(len(items), device=history.device), length)  # (n,)
        entries = first[of] + torch.arange(len(of), device=history.device) - (length.cumsum(0) - length)[of]
        cells = users[of] * (self.n_items + 1) + self.columns[entries]
        total = torch.zeros(len(history) * (self.n_items + 1), device=history.device)
        total = total.index_add(0, cells, self.weights[entries] * say[of]).view(len(history), -1)
        return total / total.sum(1, keepdim=True).clamp_min(torch.finfo(total.dtype).tiny)

    def save(self, file: Path) -> None:
        arrays = {name: buffer.cpu().numpy() for name, buffer in self.named_buffers()}
        save_arrays({**arrays, "num_items": np.array(self.num_items), "decay": np.array(self.decay)}, file)

    @classmethod
    def load(cls, file: Path, n_items: int) -> "Transitions":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing or damaged, or of another catalogue.
        """
        arrays = load_arrays(file)
        again = "run `dvc repro -f count_transitions`"
        if {"starts", "columns", "weights", "num_items", "decay"} - arrays.keys():
            raise UserError(f"{file} is not what count_transitions writes, got {', '.join(arrays)}; {again}")
        if len(arrays["starts"]) != n_items + 2:
            raise UserError(f"{file} must be of {n_items:,} items, got {len(arrays['starts']) - 2:,}; {again}")
        rows = Rows(arrays["starts"], arrays["columns"], arrays["weights"])
        return cls(rows, int(arrays["num_items"]), float(arrays["decay"]))


def mixed(chances: Tensor, memory: Tensor, share: float) -> Tensor:
    """Log-probabilities of p = (1 - share) chances + share memory.

    Args:
        chances: (b, n_items + 1), a model's probabilities, 0 for padding.
        memory: (b, n_items + 1) probabilities; a row of zeros leaves the model alone.
    """
    return torch.log((1 - share) * chances + share * memory)


def joined(parts: Iterable[sparse.csr_array], items: NDArray[np.int64], n_items: int, most_entries: int) -> Rows:
    """The rows of some items, ascending, one part after another; those of all others are empty.

    Args:
        parts: together (len(items), n_items + 1).
        most_entries: no fewer than they have; what is not needed is never touched.
    """
    columns, weights = np.empty(most_entries, np.int32), np.empty(most_entries, np.float32)
    lengths, n_rows, n_entries = np.zeros(n_items + 1, np.int64), 0, 0
    for part in parts:
        lengths[items[n_rows : n_rows + part.shape[0]]] = np.diff(part.indptr)
        columns[n_entries : n_entries + part.nnz] = part.indices
        weights[n_entries : n_entries + part.nnz] = part.data
        n_rows, n_entries = n_rows + part.shape[0], n_entries + part.nnz
    return Rows(np.concatenate([[0], np.cumsum(lengths)]), columns[:n_entries], weights[:n_entries])
