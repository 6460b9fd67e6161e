"""The verdict follows from paired intervals."""

from genrec.report.outcome_sections import is_certain, verdict

TITLES = {"popularity": "popularity", "item_knn": "item co-occurrence", "sasrec": "SASRec"}


def results(recall, pairs):
    """Models with a recall, and (model, other) to the ends of their difference."""
    return {
        model: {
            "values": {"test": {"excluded": {"recall_at_10": value}}},
            "pairs": {b: {"recall_at_10": ends} for (a, b), ends in pairs.items() if a == model},
        }
        for model, value in recall.items()
    }


def test_the_best_stands_before_the_second_with_the_paired_interval():
    found = verdict(
        results(
            {"popularity": 0.1, "item_knn": 0.2, "sasrec": 0.25},
            {
                ("sasrec", "item_knn"): [0.05, 0.01, 0.09],
                ("popularity", "item_knn"): [-0.1, -0.2, -0.05],
            },
        ),
        TITLES,
        10,
    )
    assert found["sentence"] == (
        "SASRec finds the item that a user takes next among its first 10 for 25.0% of the users, 5.0 points "
        "(95 % interval 1.0 to 9.0) above item co-occurrence."
    )
    assert found["above"] == ["SASRec (+5.0 points, +1.0 to +9.0)"]
    assert found["surely_below"] == ["popularity (\u221210.0 points, \u221220.0 to \u22125.0)"]


def test_an_interval_that_holds_nothing_leaves_it_open_who_loses():
    pairs = {("item_knn", "sasrec"): [0.01, -0.01, 0.03], ("sasrec", "item_knn"): [-0.01, -0.03, 0.01]}
    found = verdict(results({"item_knn": 0.2, "sasrec": 0.19}, pairs), TITLES, 10)
    assert "interval -1.0 to 3.0: not certain) above SASRec" in found["sentence"]
    assert found["perhaps_below"] == ["SASRec (\u22121.0 points, \u22123.0 to +1.0)"]
    assert found["surely_below"] == found["above"] == []


def test_an_interval_that_ends_at_zero_is_not_certain():
    assert not is_certain([0.1, 0.0, 0.2])
    assert is_certain([-0.1, -0.2, -0.01])
