"""The whole pipeline with the split in time, on tiny data, each stage in a process: it ends in a page that opens.

What comes after the second moment changes nothing that is learned, to the byte; so do the last interactions of
leave-one-out. All models train in bfloat16, as those of presets do, where other pipelines of the tests have float32.
"""

import json
import shutil

import numpy as np
import pytest
from faults.stages_in_processes import PROJECT, STAGES, digests, remove_outputs, run_stage_process, write_params

from genrec.sequences.histories import Histories

pytestmark = pytest.mark.pipeline

IN_TIME = {"split": "time", "time": {"targets": "all"}}
BFLOAT16 = {"precision": "bf16-mixed", "portable": False}
HISTORIES = "data/prepared/histories.npz"
LEARNS = [stage for stage in STAGES[2:] if not stage.startswith("evaluate_") and stage not in ("report", "package")]


def run(folder, stages):
    for stage in stages:
        answer = run_stage_process(folder, stage)
        assert answer.status == 0, f"{stage}: {answer.said}"


def prepared(folder, split):
    write_params(folder, {"prepare_data": split, "evaluate": {"ks": [3, 5, 10]}, "trainer": BFLOAT16})
    shutil.copy(PROJECT / "dvc.yaml", folder)
    run(folder, ["fetch_data", "prepare_data"])
    return folder


@pytest.fixture(scope="module")
def in_time(tmp_path_factory):
    folder = prepared(tmp_path_factory.mktemp("in-time"), IN_TIME)
    run(folder, STAGES[2:])
    return folder


def test_the_page_says_how_the_data_were_split_and_opens(in_time, browser):
    statistics = json.loads((in_time / "reports/prepare_data/metrics.json").read_text())
    said = f"tests ({statistics['n_test_targets']:,} targets of {statistics['n_test_users']:,} users)"
    assert "Split in time: what is before " in (in_time / "reports/results.md").read_text()
    assert said in (in_time / "reports/results.md").read_text()
    browser.open(in_time / "reports/report.html")
    assert said in browser.find("#run")[0].text
    assert browser.errors() == []


def test_new_users_have_figures_of_their_own(in_time):
    results = json.loads((in_time / "reports/results.json").read_text())
    statistics = json.loads((in_time / "reports/prepare_data/metrics.json").read_text())
    for model in results.values():
        of_users = {group["group"]: group for group in model["slices"]["by_new_user"]}
        assert "new user" in of_users
        assert sum(group.get("targets", group["users"]) for group in of_users.values()) == statistics["n_test_targets"]
        assert all(group["low"] <= group["recall"] <= group["high"] for group in of_users.values())


def test_the_package_answers(in_time):
    manifest = json.loads((in_time / "data/package/package.json").read_text())
    assert manifest["split"] == "time"
    assert "Split in time: what came after one moment" in (in_time / "data/package/README.md").read_text()


@pytest.mark.parametrize("split", [IN_TIME, {"split": "leave_one_out"}], ids=["time", "leave_one_out"])
def test_what_is_tested_changes_no_byte_of_what_is_learned(in_time, tmp_path, split):
    folder = in_time if split == IN_TIME else prepared(tmp_path / "one", split)
    if folder != in_time:
        run(folder, LEARNS)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    exchange_tested(other / HISTORIES)
    for stage in LEARNS:
        remove_outputs(other, stage)
    run(other, LEARNS)
    before, after = digests(folder, LEARNS), digests(other, LEARNS)
    differs = {name for name in before if before[name] != after[name]}
    tested = {name for name in before if name.startswith("data/candidates/") and name.endswith("_test.parquet")}
    # with all targets, what was tested is known to those after it
    assert differs == (tested if split == IN_TIME else set())
    assert len(before) > 20 > len(tested) > 3


def exchange_tested(file):
    """Put other items where the test's are."""
    histories = Histories.load(file)
    stops = histories.offsets[1:]
    starts = stops - 1 if histories.cuts is None else histories.cuts.validation_stops
    tested = np.concatenate([np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)])
    items = histories.items.copy()
    items[tested] = histories.n_items + 1 - items[tested]
    Histories(items, histories.offsets, histories.n_items, histories.tied, histories.cuts).save(file)
