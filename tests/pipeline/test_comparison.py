"""A sweep becomes one table: what counts as the same run, means and intervals over seeds."""

import math

import pytest

from genrec.errors import UserError
from genrec.pipeline import tracking
from genrec.pipeline.comparison import Estimate, compare, main, seeds_table
from genrec.pipeline.tracking import FinishedRun, finished_runs, live_curves, publish

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

METRIC = "stages/evaluate_etegrec/etegrec/test/kept/recall_at_10"


def run(variant, seed, value, **others):
    return FinishedRun({"train_etegrec.variant": variant, "seed": str(seed), **others}, {METRIC: value})


def table(runs, parameter="train_etegrec.variant"):
    return compare(runs, parameter, [METRIC]).splitlines()[2:]


def test_each_value_gets_a_row_with_the_mean_over_its_seeds():
    runs = [run("full", 1, 0.2), run("full", 2, 0.4), run("no_sia", 1, 0.1)]
    # two seeds: t(0.975, 1) = 12.7062, standard error 0.1
    assert table(runs) == ["| full | 2 | 0.3000 ± 1.2706 |", "| no_sia | 1 | 0.1000 |"]


def test_a_run_that_differs_elsewhere_is_left_out():
    runs = [
        run("full", 1, 0.2, code_num="64"),
        run("full", 2, 0.9, code_num="128"),
        run("no_sia", 1, 0.1, code_num="64"),
    ]
    assert table(runs) == ["| full | 1 | 0.2000 |", "| no_sia | 1 | 0.1000 |"]


def test_the_progress_bar_makes_no_other_run():
    runs = [
        run("full", 1, 0.2, **{"runtime.progress_bar": "True"}),
        run("full", 2, 0.2, **{"runtime.progress_bar": "False"}),
    ]
    assert table(runs) == ["| full | 2 | 0.2000 ± 0.0000 |"]


def test_of_two_runs_of_one_seed_the_newest_counts():
    assert table([run("full", 1, 0.2), run("full", 1, 0.9)]) == ["| full | 1 | 0.2000 |"]


def test_a_run_of_before_the_parameter_was_there_is_left_out():
    older = FinishedRun({"seed": "1"}, {METRIC: 0.9})
    assert table([run("full", 1, 0.2), older]) == ["| full | 1 | 0.2000 |"]


def test_a_run_without_one_of_the_metrics_counts_for_none():
    runs = [run("full", 1, 0.2), run("full", 2, 0.4), run("full", 3, 0.9)]
    of_seed = [FinishedRun(each.params, each.metrics | {"n_users": 7.0}) for each in runs[:2]]
    rows = compare([*of_seed, runs[2]], "train_etegrec.variant", [METRIC, "n_users"]).splitlines()
    assert rows[0] == f"| train_etegrec.variant | seeds | {METRIC} | n_users |"
    assert rows[2:] == ["| full | 2 | 0.3000 ± 1.2706 | 7.0000 ± 0.0000 |"]


def test_numbers_are_ordered_by_their_size_and_words_by_the_alphabet():
    runs = [run(value, 1, 0.0) for value in ("10", "9", "1e-05", "no_sia", "full")]
    assert [row.split(" | ")[0] for row in table(runs)] == ["| 1e-05", "| 9", "| 10", "| full", "| no_sia"]


def test_three_seeds_have_the_interval_of_students_t():
    # t(0.975, 2) = 4.302653 times the standard error of .1, .2 and .6
    mean = (0.1 + 0.2 + 0.6) / 3
    deviation = math.sqrt(((0.1 - mean) ** 2 + (0.2 - mean) ** 2 + (0.6 - mean) ** 2) / 2)
    assert Estimate.of([0.1, 0.2, 0.6]).half_width == pytest.approx(4.302653 * deviation / math.sqrt(3))


def test_one_seed_has_no_interval():
    assert math.isnan(Estimate.of([1.0]).half_width)


@pytest.mark.parametrize(
    ("runs", "parameter", "words"),
    [
        ([], "train_etegrec.variant", "no finished run to compare"),
        (
            [run("full", 1, 0.2)],
            "train_etegrec.varian",
            "no parameter 'train_etegrec.varian' in the newest run; near it: train",
        ),
    ],
)
def test_what_is_not_there_is_named(runs, parameter, words):
    with pytest.raises(UserError, match=words):
        compare(runs, parameter, [METRIC])


def of_seed(seed, recall, model="tiger", **params):
    names = [f"stages/evaluate_{model}/{model}/test/{kind}" for kind in ("excluded/recall_at_10", "excluded/ndcg_at_10",
                                                                  "kept/recall_at_10", "kept/ndcg_at_10")]  # fmt: skip
    return FinishedRun({"seed": str(seed), **params}, dict(zip(names, (recall, 0.5, 0.25, 0.125), strict=True)))


def test_each_model_gets_its_mean_over_the_seeds_and_the_standard_deviation():
    runs = [of_seed(1, 0.1), of_seed(2, 0.2), of_seed(3, 0.3), of_seed(3, 0.9), of_seed(4, 0.9, width="7")]
    assert seeds_table(runs).splitlines() == [
        "| | seeds | recall@10, history excluded | NDCG@10, history excluded | recall@10, history kept |"
        " NDCG@10, history kept |",
        "|---|---|---|---|---|---|",
        "| TIGER | 3 | .200 ± .100 | .500 ± .000 | .250 ± .000 | .125 ± .000 |",
    ]


def test_a_seed_that_lacks_a_model_does_not_count_for_it():
    both = FinishedRun({"seed": "1"}, {**of_seed(1, 0.1).metrics, **of_seed(1, 0.3, "sasrec").metrics})
    rows = seeds_table([both, of_seed(2, 0.2)]).splitlines()[2:]
    assert [row.split(" | ")[:3] for row in rows] == [
        ["| SASRec", "1", ".300"],
        ["| TIGER", "2", ".150 ± .071"],
    ]


@pytest.mark.parametrize(
    ("runs", "words"), [([], "`make seeds` first"), ([run("full", 1, 0.2)], "put 10 into evaluate.ks")]
)
def test_where_no_seed_was_measured_the_way_out_is_named(runs, words):
    with pytest.raises(UserError, match=words):
        seeds_table(runs)


def test_a_parameter_without_a_metric_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["comparison", "train_etegrec.variant"])
    with pytest.raises(SystemExit):
        main()
    assert "name a metric" in capsys.readouterr().err


def test_the_runs_come_from_the_store_of_the_project(pipeline):
    assert finished_runs() == []
    publish()
    (found,) = finished_runs()
    assert found.params["model.code_num"] == "64"
    assert found.metrics


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_sweep_of_variants_and_seeds_is_a_table_of_its_finished_experiments(pipeline, monkeypatch, capsys):
    def begin(variant, seed, recall):
        pipeline.set_param("variant", variant)
        pipeline.set_param("seed", str(seed))
        pipeline.write(figures={"etegrec": {"test": {"kept": {"recall_at_10": recall}}}})
        monkeypatch.setenv("DVC_EXP_NAME", f"{variant}-{seed}")

    for variant, seed, recall in [("no_sia", 1, 0.1), ("full", 2, 0.4), ("full", 1, 0.2), ("no_sia", 2, 0.1)]:
        begin(variant, seed, recall)
        publish()
    begin("no_sia", 3, 0.9)
    live_curves("train_etegrec")(0, {"val_ndcg_at_10": 0.9})  # still trains
    begin("full", 3, 0.9)
    with monkeypatch.context() as broken:
        broken.setattr(tracking, "_log_files", interrupt)
        with pytest.raises(KeyboardInterrupt):
            publish()
    assert sorted(one.info.status for one in pipeline.runs()) == ["FAILED", *["FINISHED"] * 4, "RUNNING"]
    metric = "stages/evaluate_tiger/etegrec/test/kept/recall_at_10"
    monkeypatch.setattr("sys.argv", ["comparison", "train_etegrec.variant", metric])
    main()
    assert capsys.readouterr().out.splitlines() == [
        f"| train_etegrec.variant | seeds | {metric} |",
        "|---|---|---|",
        "| full | 2 | 0.3000 ± 1.2706 |",
        "| no_sia | 2 | 0.1000 ± 0.0000 |",
    ]
