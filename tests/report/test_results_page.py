"""The page of results: what stands in it, and that it says who loses to item co-occurrence."""

import pytest

from genrec.evaluation.reranking import SINGLE_SIGNALS
from genrec.generators.titles import model_titles
from genrec.report.results_page import REFERENCE, SIGNAL_NAMES, merge_results, references, results_page

STATISTICS = {"n_users": 943, "n_items": 1349, "n_interactions": 99287}


def evaluation(recall, high, extra=None):
    metrics = {f"{name}_at_{k}": recall for name in ("recall", "ndcg", "mrr") for k in (5, 10)}
    catalogue = {f"{name}_at_{k}": 0.5 for name in ("coverage", "popularity_bias") for k in (5, 10)}
    values = {split: {p: metrics | catalogue for p in ("kept", "excluded")} for split in ("validation", "test")}
    ends = {name: [recall / 2, high] for name in metrics}
    intervals = {split: {p: ends for p in ("kept", "excluded")} for split in ("validation", "test")}
    return values | (extra or {}), intervals


def tree(difference, splits=("validation", "test")):
    """The same difference everywhere."""
    return {split: {p: {"recall_at_10": difference} for p in ("kept", "excluded")} for split in splits}


DIFFERENCES = {
    "popularity": {"item_knn": tree((-0.1, -0.12, -0.08))},
    "sasrec": {"item_knn": tree((-0.01, -0.03, 0.01))},
    "tiger": {"item_knn": tree((-0.05, -0.07, -0.03))},
}


def page():
    models = {
        "tiger": evaluation(0.15, 0.19, {"invalid_beams_share": 0.01}),
        "item_knn": evaluation(0.2, 0.25),
        "popularity": evaluation(0.1, 0.12),
        "sasrec": evaluation(0.19, 0.22),
    }
    values, intervals = ({name: parts[i] for name, parts in models.items()} for i in (0, 1))
    return results_page(merge_results([values], [intervals], DIFFERENCES, {}), STATISTICS)


def test_models_stand_in_the_order_from_baseline_to_generative():
    rows = [line.split("|")[1].strip() for line in page().splitlines() if line.startswith("| ") and "---" not in line]
    assert rows[:5] == ["model", "popularity", "item co-occurrence", "SASRec", "TIGER"]


def test_values_carry_their_intervals_at_ten():
    assert "| 0.1500 | 0.1500 [0.0750, 0.1900] |" in page()


def test_who_loses_to_item_cooccurrence_is_said_and_whether_that_is_certain():
    # A model's own interval was compared with the other's point, though both are drawn from the same users: SASRec's
    # reached it, and so would that of a model which loses for nearly everybody.
    assert (
        "**Below item co-occurrence at recall@10** (difference and its interval, of the same users): popularity "
        "-0.1000 [-0.1200, -0.0800], SASRec -0.0100 [-0.0300, +0.0100], not certain, TIGER -0.0500 [-0.0700, -0.0300]."
    ) in page()


def test_a_model_without_a_name_is_an_error_and_does_not_vanish_from_the_page():
    values, intervals = evaluation(0.15, 0.19)
    with pytest.raises(ValueError, match="each model must have an entry in genrec.generators., lc_rec has none"):
        merge_results([{"lc_rec": values, "item_knn": values}], [{"lc_rec": intervals, "item_knn": intervals}], {}, {})


def test_every_model_is_compared_with_one_that_has_a_name():
    assert {other for model in model_titles() for other in references(model)} <= model_titles().keys()
    assert references(REFERENCE) == []


def with_a_ranker(signal, difference):
    """TIGER, its candidates by a single signal, and by its ranker."""
    values, intervals = {}, {}
    for name in ("item_knn", "tiger", "tiger_best_signal", "tiger_ranked"):
        values[name], intervals[name] = evaluation(0.15, 0.19)
        if name.startswith("tiger_"):
            del values[name]["validation"], intervals[name]["validation"]
    values["tiger_best_signal"][f"by_{signal}"] = 1.0
    differences = {
        "tiger": {"item_knn": tree((0.0, -0.01, 0.01))},
        "tiger_best_signal": {"item_knn": tree((0.0, -0.01, 0.01), ["test"])},
        "tiger_ranked": {
            "item_knn": tree((0.0, -0.01, 0.01), ["test"]), "tiger_best_signal": tree(difference, ["test"]),
        },
    }  # fmt: skip
    return results_page(merge_results([values], [intervals], differences, {}), STATISTICS)


@pytest.mark.parametrize("signal", SINGLE_SIGNALS)
def test_the_best_single_signal_stands_above_its_ranker_and_is_named(signal):
    test = with_a_ranker(signal, (0.0, 0, 0)).split("## Test, items of the history excluded")[1]
    rows = [line for line in test.splitlines() if line.startswith("| TIGER")]
    places = [row.split("|")[1].strip() for row in rows[:3]]
    assert places == ["TIGER", f"TIGER, best single signal ({SIGNAL_NAMES[signal]})", "TIGER, ranked"]


def test_it_is_said_whether_a_ranker_adds_anything_to_it():
    worse = with_a_ranker("log_cooccurrence", (-0.007, -0.02, 0.006))
    assert "best single signal at recall@10: TIGER, ranked -0.0070 [-0.0200, +0.0060], not certain." in worse
    better = with_a_ranker("log_cooccurrence", (0.02, 0.01, 0.03))
    assert "best single signal at recall@10: TIGER, ranked +0.0200 [+0.0100, +0.0300]." in better


def test_the_page_says_all_that_a_ranker_sees():
    # it was said to see log-probabilities and the history alone
    introduction = with_a_ranker("log_prob", (0, 0, 0)).split("##")[0]
    for seen in ("history", "attributes", "semantic ID", "log-probability", "SASRec", "co-occurrence", "popularity"):
        assert seen in introduction.split("It sees")[1]


def test_both_splits_and_both_protocols_have_a_table():
    titles = [line for line in page().splitlines() if line.startswith("## ")]
    assert len(titles) == 4
    assert "943 users, 1,349 items, 99,287 interactions" in page()


def test_a_ranker_stands_below_its_generator_with_its_ceiling_and_only_in_the_tests():
    values, intervals = evaluation(0.16, 0.2)
    del values["validation"], intervals["validation"]
    for protocol in values["test"].values():
        protocol["candidate_recall"] = 0.33
    all_values, all_intervals = {"tiger_ranked": values}, {"tiger_ranked": intervals}
    for name in ("item_knn", "tiger"):
        all_values[name], all_intervals[name] = evaluation(0.15, 0.19)
    differences = {"tiger": {"item_knn": tree((0, 0, 0))}, "tiger_ranked": {"item_knn": tree((0, 0, 0), ["test"])}}
    lines = results_page(merge_results([all_values], [all_intervals], differences, {}), STATISTICS).splitlines()
    rows = [line for line in lines if line.startswith("| TIGER, ranked |")]
    assert len(rows) == 2
    assert all(row.endswith("|  | 0.3300 |") for row in rows)
    assert lines[lines.index(rows[0]) - 1].startswith("| TIGER |")
