"""The tables behind DVC's plots, as CSV: what plots/dvc.yaml draws, for one state or for two side by side."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.generators.entry import generators
from genrec.report.results_page import REFERENCE, model_titles, shown_k
from genrec.sequences.histories import Histories, Split

Tree = Mapping[str, Any]

SPLIT: Split = "test"
PROTOCOL = "excluded"
LEAST_INTERACTIONS = (0, 5, 20, 100, 500)


def ndcg_of_models(results: Tree) -> str:
    """A row a model, in the order of the tables: `model, ndcg, low, high`, the ends of its 95 % interval."""
    metric = f"ndcg_at_{shown_k(results)}"
    rows = []
    for model, title in model_titles().items():
        if model in results:
            value = results[model]["values"][SPLIT][PROTOCOL][metric]
            rows.append((title, value, *results[model]["intervals"][SPLIT][PROTOCOL][metric]))
    return _csv(("model", "ndcg", "low", "high"), rows)


def recall_by_frequency(ranks: Mapping[str, NDArray[np.int32]], histories: Histories, k: int) -> str:
    """Recall of generators and of co-occurrence by how often the target was taken in training.

    A row a model and class: `model, interactions, recall, users`; a class in which no user's target falls is left out.

    Args:
        ranks: `model/split/protocol` to (n_users,), 1 = first.
    """
    targets = histories.items[histories.examples(SPLIT).ends]
    counts = np.bincount(histories.train_part().items, minlength=histories.n_items + 1)
    classes = np.searchsorted(LEAST_INTERACTIONS, counts[targets], side="right") - 1
    users = np.bincount(classes, minlength=len(LEAST_INTERACTIONS))
    rows = []
    for model in (REFERENCE, *(entry.name for entry in generators())):
        found = ranks[f"{model}/{SPLIT}/{PROTOCOL}"] <= k
        hits = np.bincount(classes, weights=found, minlength=len(LEAST_INTERACTIONS))
        rows += [
            (model_titles()[model], name, hits[i] / users[i], users[i])
            for i, name in enumerate(_class_names())
            if users[i]
        ]
    return _csv(("model", "interactions", "recall", "users"), rows)


def code_usage(tokenizer: Tree) -> str:
    """The tokenizer's codes by level: `level, measure, share`, of codes in use and of the highest possible entropy.

    Args:
        tokenizer: figures named `usage_level_0`, `entropy_level_0` and so on.
    """
    names = {"usage": "codes in use", "entropy": "entropy"}
    levels = sum(name.startswith("usage_level_") for name in tokenizer)
    rows = [(i, names[kind], tokenizer[f"{kind}_level_{i}"]) for kind in names for i in range(levels)]
    return _csv(("level", "measure", "share"), rows)


def _class_names() -> list[str]:
    """
    Example:
        >>> _class_names()
        ['0-4', '5-19', '20-99', '100-499', '500+']
    """
    ends = (f"-{least - 1}" for least in LEAST_INTERACTIONS[1:])
    return [f"{least}{end}" for least, end in zip(LEAST_INTERACTIONS, (*ends, "+"), strict=True)]


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Fractions with six digits, as in the reports' other files."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([round(float(cell), 6) if isinstance(cell, float) else cell for cell in row] for row in rows)
    return stream.getvalue()
