"""One protocol for every model: validation and test, history kept and excluded, and where the figures are written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.evaluation.figures import Figures, measure
from genrec.layers.processes import process_rank
from genrec.retrieval.ranking import (
    CPU,
    RankedItems,
    ScoresItems,
    SearchesItems,
    rank_by_scores,
    rank_found,
    search_users,
    share_of_invalid_beams,
)
from genrec.sequences.histories import EVALUATED_SPLITS, Histories, Split
from genrec.storage.files import load_arrays, save_arrays
from genrec.storage.output import write_metrics

if TYPE_CHECKING:
    from genrec.generation.generated_items import GeneratedItems
    from genrec.params.evaluate import Evaluate

LISTED = 10  # what people are shown of a list


@dataclass(frozen=True)
class Evaluation:
    """What a model reached.

    Attributes:
        figures: split to figures.
        extra: figures of another kind, by name.
    """

    figures: dict[Split, Figures]
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluator:
    """The settings that all models share.

    Attributes:
        ks: ascending; the lists are as long as the last.
        n_resamples, seed: of the bootstrap.
        device: where the model computes.
    """

    histories: Histories
    ks: tuple[int, ...]
    batch_size: int
    n_resamples: int
    seed: int
    progress_bar: bool
    device: torch.device = CPU

    @classmethod
    def of(
        cls, histories: Histories, settings: "Evaluate", seed: int, progress_bar: bool, device: torch.device = CPU
    ) -> Self:
        """As the section `evaluate` of params.yaml says."""
        return cls(histories, settings.ks, settings.batch_size, settings.bootstrap_samples, seed, progress_bar, device)

    def of_scores(self, score: ScoresItems, max_history: int) -> Evaluation:
        """Evaluate a model that scores every item."""
        return self._measure(
            lambda split: rank_by_scores(
                score, self.histories, split, max_history, max(self.ks), self.batch_size, self.progress_bar, self.device
            )
        )

    def search(self, generator: SearchesItems, max_history: int, n_beams: int) -> "dict[Split, GeneratedItems]":
        """What a model's constrained search finds for the users of each split."""
        return {
            split: search_users(
                lambda history: generator.generate(history, n_beams),
                self.histories, split, max_history, self.batch_size, self.progress_bar, self.device,
            )
            for split in EVALUATED_SPLITS
        }  # fmt: skip

    def of_lists(self, lists: Callable[[Split], Tensor]) -> Evaluation:
        """Evaluate what was found: a split to items (n_users, n), best first."""
        return self._measure(
            lambda split: rank_found(lists(split), self.histories, split, max(self.ks), self.batch_size)
        )

    def invalid_beams_share(self, generator: SearchesItems, max_history: int, n_beams: int) -> float:
        """How many beams of the test another search, without the constraint, would waste."""
        return share_of_invalid_beams(
            lambda history: generator.generate(history, n_beams, constrained=False),
            self.histories, "test", max_history, self.batch_size, self.progress_bar, self.device,
        )  # fmt: skip

    def _measure(self, rank: Callable[[Split], RankedItems]) -> Evaluation:
        """Of processes that evaluate together all rank, and the first alone measures, as it alone writes."""
        # what is popular is counted in what models learn from, not in what is held out
        counts = self.histories.train_counts()
        figures: dict[Split, Figures] = {}
        for split in EVALUATED_SPLITS:
            ranked = rank(split)
            if process_rank() == 0:
                user_ids = self.histories.users_of(self.histories.examples(split))
                figures[split] = measure(ranked, counts, self.ks, self.n_resamples, self.seed, user_ids)
        return Evaluation(figures)


def write_evaluations(
    evaluations: Mapping[str, Evaluation], metrics_file: Path, intervals_file: Path, ranks_file: Path
) -> None:
    """Write model -> split -> protocol -> metric as two JSON files: the values, and the ends of their intervals.

    Args:
        ranks_file: an .npz of each user's rank, as `model/split/protocol`, and of the first `LISTED` items that each
            user of the test is recommended beside the history, (n_users, LISTED) int32, as `model/items`.
    """
    values = {
        model: {**{split: figures.values for split, figures in each.figures.items()}, **each.extra}
        for model, each in evaluations.items()
    }
    intervals = {
        model: {split: figures.intervals for split, figures in each.figures.items()}
        for model, each in evaluations.items()
    }
    write_metrics(values, metrics_file)
    write_metrics(intervals, intervals_file)
    ranks = {
        f"{model}/{split}/{protocol}": of_users
        for model, each in evaluations.items()
        for split, figures in each.figures.items()
        for protocol, of_users in figures.ranks.items()
    }
    items = {
        f"{model}/items": figures.lists["excluded"][:, :LISTED]
        for model, each in evaluations.items()
        for split, figures in each.figures.items()
        if split == "test"
    }
    save_arrays({**ranks, **items}, ranks_file)


def load_ranks(file: Path) -> tuple[dict[str, NDArray[np.int32]], dict[str, NDArray[np.int32]]]:
    """What `write_evaluations` wrote to `ranks_file`: `model/split/protocol` to ranks, and model to items."""
    arrays = load_arrays(file)
    items = {name.removesuffix("/items"): each for name, each in arrays.items() if name.endswith("/items")}
    return {name: each for name, each in arrays.items() if not name.endswith("/items")}, items
