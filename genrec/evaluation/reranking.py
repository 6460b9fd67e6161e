"""The figures of candidates in a ranker's order."""

import numpy as np
import torch
from torch import Tensor

from genrec.evaluation.figures import Figures, measure
from genrec.ranking.rows import SIGNALS, RankingRows
from genrec.retrieval.candidates import Candidates
from genrec.retrieval.proposals import reorder
from genrec.retrieval.ranking import RankedItems, first_items
from genrec.retrieval.ranks import ranks_in_lists
from genrec.sequences.histories import Histories, Split

# each as it stands orders candidates; the others are the generator's order once more, or no order at all
SINGLE_SIGNALS = ("log_prob", "sasrec_log_prob", "log_cooccurrence", "log_popularity")
USERS_AT_ONCE = 512  # what is compared with whole histories at once


def order_by_signal(candidates: Candidates, rows: RankingRows, signal: str) -> Tensor:
    """The candidates ordered by one of the ranker's signals alone, the largest first; (n_users, n) int64."""
    return reorder(candidates, rows.users, rows.places, rows.features["signals"][:, SIGNALS.index(signal)])


def best_signal(candidates: Candidates, rows: RankingRows, histories: Histories, split: Split, k: int) -> str:
    """The signal that alone orders candidates best, by NDCG at k with the history excluded; of equals the first.

    It is what a ranker has to beat: a ranker that does not has learned nothing from all of them together.
    """
    reached = {}
    for signal in SINGLE_SIGNALS:
        ordered = order_by_signal(candidates, rows, signal)
        reached[signal] = measure_reordered(ordered, histories, split, (k,), 1, 0).values["excluded"][f"ndcg_at_{k}"]
    return max(reached, key=lambda signal: reached[signal])


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
    is_new = torch.cat(
        [
            ~(reordered[rows, :, None] == torch.from_numpy(histories.padded(examples.take(rows)))[:, None]).any(2)
            for rows in np.split(np.arange(len(examples)), np.arange(0, len(examples), USERS_AT_ONCE)[1:])
        ]
    )
    allowed = {"kept": reordered != 0, "excluded": is_new & (reordered != 0)}
    width = reordered.shape[1]
    everything = {protocol: first_items(reordered, mask, max(width, ks[-1])) for protocol, mask in allowed.items()}
    ranked = RankedItems({name: lists[:, : ks[-1]] for name, lists in everything.items()}, targets)
    counts = histories.train_counts()
    figures = measure(ranked, counts, ks, n_resamples, seed, histories.users_of(examples))
    for protocol, lists in everything.items():
        found = ranks_in_lists(lists, targets) <= lists.shape[1]
        figures.values[protocol]["candidate_recall"] = float(found.float().mean())
    return figures
