"""The figures that people compare by: which they are, in which order, and where they come from."""

import json
from typing import Any

from genrec.report.headline import headline, headline_json

TOKENIZER = {"collision_rate": 0.0259449, "usage_level_0": 1.0}


def model(ndcg: float, recall: float, on_validation: float | None = None, coverage: float = 0.5) -> dict[str, Any]:
    """Figures at 10; those of other lengths, of the history kept and of validation would all be noticed."""
    wrong = {f"{name}_at_{k}": 0.999 for name in ("ndcg", "recall", "coverage") for k in (5, 10, 20)}
    right = {**wrong, "ndcg_at_10": ndcg, "recall_at_10": recall, "coverage_at_10": coverage}
    values: dict[str, Any] = {"test": {"excluded": right, "kept": wrong}}
    if on_validation is not None:
        values["validation"] = {"excluded": {**wrong, "ndcg_at_10": on_validation}, "kept": wrong}
    return {"values": values}


RESULTS = {
    "popularity": model(0.1, 0.2, on_validation=0.9),
    "item_knn": model(0.3, 0.4, on_validation=0.9),
    "sasrec": model(0.31234567, 0.3, on_validation=0.2, coverage=0.25),
    "tiger": model(0.3, 0.5, on_validation=0.1, coverage=0.75),
    "tiger_best_signal": model(0.6, 0.6),
    "tiger_ranked": model(0.4, 0.7),
}


def test_the_best_stand_first_and_equal_ones_in_the_order_of_the_tables() -> None:
    assert headline(RESULTS, TOKENIZER) == {
        "ndcg_tiger_ranked": 0.4,
        "ndcg_sasrec": 0.3123,
        "ndcg_item_knn": 0.3,
        "ndcg_tiger": 0.3,
        "ndcg_popularity": 0.1,
        "recall_tiger": 0.5,
        "recall_item_knn": 0.4,
        "recall_sasrec": 0.3,
        "recall_popularity": 0.2,
        "coverage": 0.25,
        "collisions": 0.0259,
    }
    assert list(headline(RESULTS, TOKENIZER))[:4] == ["ndcg_tiger_ranked", "ndcg_sasrec", "ndcg_item_knn", "ndcg_tiger"]


def test_coverage_is_that_of_the_generator_that_validation_calls_the_best() -> None:
    better = {**RESULTS, "tiger": model(0.0, 0.0, on_validation=0.3, coverage=0.75)}
    assert headline(better, TOKENIZER)["coverage"] == 0.75


def test_without_a_length_of_ten_the_longest_lists_count() -> None:
    only = {"recall_at_5": 0.1, "recall_at_20": 0.4, "ndcg_at_5": 0.1, "ndcg_at_20": 0.3, "coverage_at_20": 0.7}
    splits = {split: {"kept": only, "excluded": only} for split in ("test", "validation")}
    found = headline({"sasrec": {"values": splits}}, TOKENIZER)
    assert found == {"ndcg_sasrec": 0.3, "recall_sasrec": 0.4, "coverage": 0.7, "collisions": 0.0259}


def test_the_file_keeps_the_order_in_which_tables_show_columns() -> None:
    text = headline_json({"ndcg_b": 0.5, "ndcg_a": 0.25})
    assert list(json.loads(text)) == ["ndcg_b", "ndcg_a"]
    assert text.endswith("}\n")
