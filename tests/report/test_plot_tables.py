"""The tables behind DVC's plots, row by row."""

from genrec.generators.entry import generators
from genrec.report.plot_tables import code_usage, ndcg_of_models, recall_by_frequency


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


def test_recall_has_a_row_a_model_and_group_as_the_page_groups_users() -> None:
    names = ["item_knn", *(entry.name for entry in generators())]
    often = {"group": "5 to 90", "users": 3, "recall": 1 / 3, "low": 0.1, "high": 0.8}
    rarely = {"group": "0 to 4", "users": 2, "recall": 0.5, "low": 0.1, "high": 0.9}
    results = {name: {"slices": {"by_item_frequency": [rarely, often], "by_transition": [often]}} for name in names}
    rows = recall_by_frequency({**results, "tiger_ranked": {}}).splitlines()
    assert rows[:4] == [
        "model,interactions,recall,users",
        "item co-occurrence,0 to 4,0.5,2",
        "item co-occurrence,5 to 90,0.333333,3",
        "SASRec,0 to 4,0.5,2",
    ]
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
