"""What the page of results is made from: all that stages have written, as one value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genrec.evaluation.audit import Audit
from genrec.retrieval.candidates import Candidates
from genrec.sequences.histories import Histories

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Codes:
    """A code table and what is known of it.

    Attributes:
        title: whose it is.
        table: (n_items, code_length) int32, without the row of padding; the last column is the collision code.
        likeness: as `likeness_by_prefix` gives it.
        lost: as `lost_by_level` gives it; empty where the tokenizer is not at hand.
    """

    title: str
    table: NDArray[np.int32]
    likeness: list[dict[str, Any]]
    lost: list[float]


@dataclass(frozen=True)
class Findings:
    """Everything that the page says.

    Attributes:
        results: what results.json holds.
        statistics: the figures of `prepare_data`.
        names: (n_items + 1,) what people call each item; that of padding is empty.
        has_titles: whether the names are titles, or only the data's own keys.
        times: (n_interactions,) seconds in the order of `histories.items`; None where the data have no times.
        ranks: model to (n_users,), of the test with the history excluded.
        items: model to (n_users, n) item_ids of the same; 0 is none.
        codes: of each code table.
        code_num: codes a level.
        audits, candidates: generator to what it wrote, of those that did.
        curves: stage to a row an epoch.
        figures: stage to its metrics.
        new_items: what `genrec.report.new_items` shows; None where it was not measured in this state.
        settings: the sections of params.yaml.
        stages: those of dvc.yaml.
        versions: library to version.
    """

    results: dict[str, Any]
    statistics: Tree
    histories: Histories
    names: list[str]
    has_titles: bool
    times: NDArray[np.int64] | None
    ranks: Mapping[str, NDArray[np.int32]]
    items: Mapping[str, NDArray[np.int32]]
    codes: list[Codes]
    code_num: int
    audits: Mapping[str, Audit]
    candidates: Mapping[str, Candidates]
    curves: Mapping[str, pd.DataFrame]
    figures: Mapping[str, Tree]
    new_items: Tree | None
    settings: Tree
    stages: Tree
    versions: Mapping[str, str]

    @property
    def k(self) -> int:
        """The length of list that the page speaks of: 10 where it was measured, else the longest."""
        values = next(iter(self.results.values()))["values"]["test"]["excluded"]
        ks = [int(name.rpartition("_")[2]) for name in values if re.fullmatch(r"recall_at_\d+", name)]
        return 10 if 10 in ks else max(ks)


def item_names(items: pd.DataFrame) -> tuple[list[str], bool]:
    """What people call each item, and whether those are titles.

    The first column with "title" in its name, else with "name"; else, and where a row is empty, the data's own key.

    Args:
        items: item_id from 1 in order, item_key, and the columns of the item table.
    """
    for word in ("title", "name"):
        for column in items.columns:
            if word in column.lower():
                titles = items[column].fillna("").astype(str).str.strip()
                return ["", *titles.where(titles != "", items["item_key"].astype(str))], True
    return ["", *items["item_key"].astype(str)], False


def known_times(times: NDArray[np.int64], rows_read: int) -> NDArray[np.int64] | None:
    """The times, or None where they are only the rows' places in the file, or all the same.

    Example:
        >>> known_times(np.array([0, 2, 1]), rows_read=3), known_times(np.array([874965478, 874965479]), 2)
        (None, array([874965478, 874965479]))
    """
    if not len(times) or times.min() == times.max() or (times.min() >= 0 and times.max() < rows_read):
        return None
    return times
