"""The figures of candidates in a ranker's order."""

import numpy as np
import torch
from torch import Tensor

from genrec.evaluation.figures import Figures, measure
from genrec.retrieval.ranking import RankedItems, first_items
from genrec.retrieval.ranks import ranks_in_lists
from genrec.sequences.histories import Histories, Split

USERS_AT_ONCE = 512  # what is compared with whole histories at once


def measure_reordered(
    reordered: Tensor,
    histories: Histories,
    split: Split,
    ks: tuple[int, ...],
    n_resamples: int,
    seed: int,
) -> Figures:
    """The figures of reordered candidates, with the ceiling that no order can pass as `candidate_recall`."""
    examples = histories.examples(split)
    targets = torch.from_numpy(histories.targets(examples)).long()
    seen = torch.from_numpy(histories.padded(examples)).long()
    is_new = torch.cat(
        [
            ~(reordered[start : start + USERS_AT_ONCE, :, None] == seen[start : start + USERS_AT_ONCE, None]).any(2)
            for start in range(0, len(seen), USERS_AT_ONCE)
        ]
    )
    allowed = {"kept": reordered != 0, "excluded": is_new & (reordered != 0)}
    width = reordered.shape[1]
    everything = {protocol: first_items(reordered, mask, max(width, ks[-1])) for protocol, mask in allowed.items()}
    ranked = RankedItems({name: lists[:, : ks[-1]] for name, lists in everything.items()}, targets)
    counts = np.bincount(histories.train_part().items, minlength=histories.n_items + 1)
    figures = measure(ranked, counts, ks, n_resamples, seed)
    for protocol, lists in everything.items():
        found = ranks_in_lists(lists, targets) <= lists.shape[1]
        figures.values[protocol]["candidate_recall"] = float(found.float().mean())
    return figures
