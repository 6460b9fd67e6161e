"""The page of results: what stands in it, and that it says who loses to item co-occurrence."""

from genrec.report.results_page import merge_results, results_page

STATISTICS = {"n_users": 943, "n_items": 1349, "n_interactions": 99287}


def evaluation(recall, high, extra=None):
    metrics = {f"{name}_at_{k}": recall for name in ("recall", "ndcg", "mrr") for k in (5, 10)}
    catalogue = {f"{name}_at_{k}": 0.5 for name in ("coverage", "popularity_bias") for k in (5, 10)}
    values = {split: {p: metrics | catalogue for p in ("kept", "excluded")} for split in ("validation", "test")}
    ends = {name: [recall / 2, high] for name in metrics}
    intervals = {split: {p: ends for p in ("kept", "excluded")} for split in ("validation", "test")}
    return values | (extra or {}), intervals


def page():
    models = {
        "tiger": evaluation(0.15, 0.19, {"invalid_beams_share": 0.01}),
        "item_knn": evaluation(0.2, 0.25),
        "popularity": evaluation(0.1, 0.12),
        "sasrec": evaluation(0.19, 0.22),
    }
    values, intervals = ({name: parts[i] for name, parts in models.items()} for i in (0, 1))
    return results_page(merge_results([values], [intervals]), STATISTICS)


def test_models_stand_in_the_order_from_baseline_to_generative():
    rows = [line.split("|")[1].strip() for line in page().splitlines() if line.startswith("| ") and "---" not in line]
    assert rows[:5] == ["model", "popularity", "item co-occurrence", "SASRec", "TIGER"]


def test_values_carry_their_intervals_at_ten():
    assert "| 0.1500 | 0.1500 [0.0750, 0.1900] |" in page()


def test_who_loses_to_item_cooccurrence_is_said_and_whether_that_is_certain():
    assert "**Below item co-occurrence at recall@10:** popularity, SASRec (its interval reaches it), TIGER." in page()


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
    lines = results_page(merge_results([all_values], [all_intervals]), STATISTICS).splitlines()
    rows = [line for line in lines if line.startswith("| TIGER, ranked |")]
    assert len(rows) == 2
    assert all(row.endswith("|  | 0.3300 |") for row in rows)
    assert lines[lines.index(rows[0]) - 1].startswith("| TIGER |")
