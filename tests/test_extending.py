"""docs/extending.md is true: its generator and its metric are added to a copy of the project, which then runs."""

import json

import pytest
from architecture import Project as Architecture
from architecture import wrong_commands, wrong_deps, wrong_imports, wrong_params, wrong_paths
from cloned_project import Project
from extending import edits_of

from genrec.pipeline.execution import PUBLISHING

pytestmark = pytest.mark.pipeline

MOST_FILES = 5


@pytest.fixture(scope="module")
def extended(project: Project) -> Project:
    """The project with the page's generator."""
    for edit in edits_of("A generator"):
        edit.apply(project.folder)
    project.dvc("repro")
    return project


def test_a_generator_touches_five_files(extended):
    written = {edit.file for edit in edits_of("A generator")}
    changed = {line[3:] for line in extended.run("git", "status", "--short", "-uall").splitlines()}
    assert written == {file for file in changed if not file.startswith(("reports/", "dvc.lock", "tracking/dvc.lock"))}
    assert len(written) <= MOST_FILES


def test_the_architecture_of_the_copy_is_in_order(extended):
    architecture = Architecture(extended.folder)
    problems = wrong_commands(architecture) + wrong_imports(architecture)
    # the sections that this process knows are the project's own, without the new one
    for stage in architecture.stages:
        # the toy's one file brings what trains it along; a real one's network is a file among the others
        problems += wrong_deps(architecture, stage, most=12)
        if stage != "track":
            problems += wrong_paths(architecture, stage)
        if stage not in ("track", "train_last_item", "report"):  # `report` reads all sections
            problems += wrong_params(architecture, stage)
    assert problems == []


def test_the_generator_is_in_the_table_in_mlflow_and_among_the_ranked(extended):
    page = (extended.folder / "reports/results.md").read_text()
    assert page.count("| last item |") == 4
    assert page.count("| last item, ranked |") == 2
    results = json.loads((extended.folder / "reports/results.json").read_text())
    ranked = results["last_item_ranked"]["values"]["test"]["excluded"]
    assert 0 < ranked["recall_at_10"] <= ranked["candidate_recall"] <= 1
    newest = extended.runs()[0]["metrics"]
    headline = {"ndcg_last_item", "ndcg_last_item_ranked", "recall_last_item"}
    assert headline | {"train_last_item/val_ndcg_at_10"} <= set(newest)


def test_no_other_model_was_trained_again_for_it(project, extended):
    lock = project.run("git", "diff", "-U0", "dvc.lock")
    changed = {line[1:].strip() for line in lock.splitlines() if line.startswith("-") and ".ckpt" in line}
    assert changed == set()


def test_a_metric_reruns_evaluations_alone_and_is_seen(extended):
    for edit in edits_of("A metric"):
        edit.apply(extended.folder)
    output = extended.dvc("repro")
    ran = {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}
    assert ran == {stage for stage in Architecture(extended.folder).stages if stage.startswith("evaluate_")} | {
        "report",
        "package",  # its card shows figures of the evaluations
        PUBLISHING,
    }
    results = json.loads((extended.folder / "reports/results.json").read_text())
    shares = [results[model]["values"]["test"]["kept"]["tail_share_at_10"] for model in ("popularity", "sasrec")]
    assert shares[0] == 0 < shares[1]
    assert "tail share@10" in (extended.folder / "reports/results.md").read_text()
    extended.run("python", "-m", "pytest", "-q", "--doctest-modules", "genrec/evaluation/measures.py")
