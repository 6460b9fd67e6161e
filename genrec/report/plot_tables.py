"""The tables behind DVC's plots, as CSV: what plots/dvc.yaml draws, for one state or for two side by side."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from genrec.generators.entry import generators
from genrec.generators.titles import model_titles
from genrec.report.results_page import REFERENCE, shown_k
from genrec.sequences.histories import Split

Tree = Mapping[str, Any]

SPLIT: Split = "test"
PROTOCOL = "excluded"


def ndcg_of_models(results: Tree) -> str:
    """A row a model, in the order of the tables: `model, ndcg, low, high`, the ends of its 95 % interval."""
    metric = f"ndcg_at_{shown_k(results)}"
    rows = []
    for model, title in model_titles().items():
        if model in results:
            value = results[model]["values"][SPLIT][PROTOCOL][metric]
            rows.append((title, value, *results[model]["intervals"][SPLIT][PROTOCOL][metric]))
    return _csv(("model", "ndcg", "low", "high"), rows)


def recall_by_frequency(results: Tree) -> str:
    """Recall of generators and of co-occurrence by how often the target was taken in training, history excluded.

    A row a model and group: `model, interactions, recall, users`.
    """
    return _csv(
        ("model", "interactions", "recall", "users"),
        (
            (model_titles()[model], group["group"], group["recall"], group["users"])
            for model in (REFERENCE, *(entry.name for entry in generators()))
            for group in results[model]["slices"]["by_item_frequency"]
        ),
    )


def code_usage(tokenizer: Tree) -> str:
    """The tokenizer's codes by level: `level, measure, share`, of codes in use and of the highest possible entropy.

    Args:
        tokenizer: figures named `usage_level_0`, `entropy_level_0` and so on.
    """
    names = {"usage": "codes in use", "entropy": "entropy"}
    levels = sum(name.startswith("usage_level_") for name in tokenizer)
    rows = [(i, names[kind], tokenizer[f"{kind}_level_{i}"]) for kind in names for i in range(levels)]
    return _csv(("level", "measure", "share"), rows)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Fractions with six digits, as in the reports' other files."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([round(float(cell), 6) if isinstance(cell, float) else cell for cell in row] for row in rows)
    return stream.getvalue()
