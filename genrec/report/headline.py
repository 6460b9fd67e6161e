"""The few figures of a state that people compare by: what DVC's tables and MLflow's columns show first."""

import json
from collections.abc import Mapping
from typing import Any

from genrec.generators.entry import generators
from genrec.generators.titles import model_titles
from genrec.report.results_page import REFERENCE, shown_k

Tree = Mapping[str, Any]

BASELINES = ("popularity", REFERENCE)
SPLIT, PROTOCOL = "test", "excluded"
DIGITS = 4


def headline(results: Tree, tokenizer: Tree) -> dict[str, float]:
    """Short flat names to figures on test with the items of the history excluded, the best first.

    `ndcg_<model>`: of all models but a ranker's single signals and mixtures with the memory. `recall_<model>`: of the
    generators and the baselines alone, so that a sweep's table stays narrow. Both are at 10, or at the largest k that
    was measured. `coverage`: the share of the catalogue that the best generator recommends to somebody, the best by
    NDCG on validation, since test figures choose nothing. `collisions`: the share of items whose codes are another's
    too.

    Args:
        results: as `merge_results` puts them together.
        tokenizer: the figures of the tokenizer's training.
    """
    k = shown_k(results)
    left_out = {name for entry in generators() for name in (entry.best_signal_name, entry.with_memory_name)}
    models = [model for model in model_titles() if model in results and model not in left_out]
    names = [entry.name for entry in generators() if entry.name in results]
    found = _best_first("ndcg", f"ndcg_at_{k}", results, models)
    found |= _best_first("recall", f"recall_at_{k}", results, [each for each in models if each in (*BASELINES, *names)])
    best = max(names, key=lambda name: float(results[name]["values"]["validation"][PROTOCOL][f"ndcg_at_{k}"]))
    found["coverage"] = results[best]["values"][SPLIT][PROTOCOL][f"coverage_at_{k}"]
    found["collisions"] = tokenizer["collision_rate"]
    return {name: round(value, DIGITS) for name, value in found.items()}


def _best_first(prefix: str, metric: str, results: Tree, models: list[str]) -> dict[str, float]:
    """Equal models keep the order of the tables."""
    values = {model: results[model]["values"][SPLIT][PROTOCOL][metric] for model in models}
    return {f"{prefix}_{model}": values[model] for model in sorted(models, key=lambda model: -values[model])}


def headline_json(figures: Mapping[str, float]) -> str:
    """JSON in the order of the figures, in which DVC shows columns."""
    return json.dumps(figures, indent=2, allow_nan=False) + "\n"
