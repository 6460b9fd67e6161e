"""A sweep becomes one table: what counts as the same run, means and intervals over seeds."""

import math

import pytest

from genrec.comparison import Estimate, compare
from genrec.errors import UserError
from genrec.tracking import FinishedRun, finished_runs, publish

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

METRIC = "evaluate_etegrec/etegrec/test/kept/recall_at_10"


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


def test_the_runs_come_from_the_store_of_the_project(pipeline):
    assert finished_runs() == []
    publish()
    (found,) = finished_runs()
    assert found.params["model.code_num"] == "64"
    assert found.metrics
