"""The tables behind DVC's plots, row by row."""

import numpy as np

from genrec.generators.entry import generators
from genrec.report.plot_tables import code_usage, ndcg_of_models, recall_by_frequency
from genrec.sequences.histories import Histories


def figures(value: float) -> dict[str, dict[str, dict[str, object]]]:
    at_ten = {"recall_at_10": 0.0, "ndcg_at_10": value}
    ends = {"ndcg_at_10": [value / 2, 2 * value]}
    return {
        "values": {"test": {"excluded": at_ten, "kept": {"recall_at_10": 0.0}}},
        "intervals": {"test": {"excluded": ends}},
    }


def test_ndcg_stands_with_its_interval_in_the_order_of_the_tables() -> None:
    results = {"tiger": figures(0.25), "item_knn": figures(1 / 3), "tiger_best_signal": figures(0.1)}
    assert ndcg_of_models(results).splitlines() == [
        "model,ndcg,low,high",
        "item co-occurrence,0.333333,0.166667,0.666667",
        "TIGER,0.25,0.125,0.5",
        '"TIGER, best single signal",0.1,0.05,0.2',
    ]


def test_recall_is_told_apart_by_how_often_the_target_was_taken_in_training() -> None:
    # in training (without each user's last two) item 1 is taken seven times, item 2 once, item 3 never
    users = [[1, 1, 1, 2, 1], [1, 1, 1, 2, 1], [2, 1, 3], [1, 2, 2]]
    items = np.array([item for user in users for item in user], np.int32)
    offsets = np.cumsum([0, *map(len, users)])
    histories = Histories(items, offsets, n_items=3)
    counts = np.bincount(histories.train_part().items, minlength=4)
    assert counts.tolist() == [0, 7, 1, 0]
    names = ["item_knn", *(entry.name for entry in generators())]
    ranks = {f"{name}/test/excluded": np.array([11, 11, 11, 11], np.int32) for name in names}
    ranks["item_knn/test/excluded"] = np.array([10, 11, 1, 11], np.int32)
    rows = recall_by_frequency(ranks, histories, k=10).splitlines()
    assert rows[:3] == [
        "model,interactions,recall,users",
        "item co-occurrence,0-4,0.5,2",  # the targets 3 and 2
        "item co-occurrence,5-19,0.5,2",  # the target 1, twice
    ]
    assert rows[3] == "SASRec,0-4,0.0,2"
    assert len(rows) == 1 + 2 * len(names)


def test_codes_have_a_row_a_level_and_measure() -> None:
    tokenizer = {"usage_level_0": 1.0, "usage_level_1": 0.5, "entropy_level_0": 0.9, "entropy_level_1": 0.4, "usage": 7}
    assert code_usage(tokenizer).splitlines() == [
        "level,measure,share",
        "0,codes in use,1.0",
        "1,codes in use,0.5",
        "0,entropy,0.9",
        "1,entropy,0.4",
    ]
