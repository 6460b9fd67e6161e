"""What the files say: the identity of a state, its curves and figures, and the way back to it."""

import json
import subprocess
from typing import Any

import pytest
from fake_pipeline import FIGURES, Pipeline

from genrec.errors import UserError
from genrec.params.reading import read_params
from genrec.pipeline.execution import Execution, record_executed
from genrec.pipeline.state import origin_tags


@pytest.fixture
def pipeline(bare_pipeline: Pipeline) -> Pipeline:
    """Nothing here needs a store."""
    return bare_pipeline


def tags_of(pipeline: Pipeline) -> dict[str, str]:
    execution = Execution.current()
    return {**origin_tags(pipeline.folder, execution), **pipeline.state().tags(execution, "#/experiments/1/runs/run-7")}


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@x", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class TestFingerprint:
    def test_ignores_what_can_not_change_a_result(self, pipeline: Pipeline) -> None:
        before = pipeline.state().fingerprint
        pipeline.set_param("progress_bar", "false")
        pipeline.set_param("experiment", "elsewhere")
        assert pipeline.state().fingerprint == before

    @pytest.mark.parametrize("change", [{"code_num": 65}, {"curve": [0.1]}, {"figures": {"recall_at_10": 0.26}}])
    def test_changes_with_params_outputs_and_reports(self, pipeline: Pipeline, change: dict[str, Any]) -> None:
        before = pipeline.state().fingerprint
        pipeline.write(**change)
        assert pipeline.state().fingerprint != before

    def test_ignores_stages_that_dvc_yaml_has_lost(self, pipeline: Pipeline) -> None:
        # DVC never removes them from dvc.lock: a renamed stage would stand in every later state
        before = pipeline.state().fingerprint
        with (pipeline.folder / "dvc.lock").open("a") as lock:
            lock.write("  train_gru:\n    params: {params.yaml: {gru.dim: 8}}\n    outs: [{path: gru, md5: f}]\n")
        assert pipeline.state().fingerprint == before

    def test_is_the_same_in_another_folder(self, pipeline: Pipeline) -> None:
        before = pipeline.state().fingerprint
        moved = pipeline.folder.rename(pipeline.folder.with_name("elsewhere"))
        assert Pipeline(moved).state().fingerprint == before


class TestReading:
    def test_refuses_params_that_were_edited_while_the_pipeline_ran(self, pipeline: Pipeline) -> None:
        pipeline.set_param("code_num", "128")
        with pytest.raises(UserError, match=r"stage train_tiger ran \(model.code_num was 64, is 128\)"):
            pipeline.state()

    def test_takes_a_frozen_stage_as_it_is(self, pipeline: Pipeline) -> None:
        # `dvc freeze` keeps an output although its parameters changed
        pipeline.set_param("code_num", "128")
        file = pipeline.folder / "dvc.yaml"
        file.write_text(file.read_text().replace("stages.train_tiger\n", "stages.train_tiger\n    frozen: true\n"))
        assert pipeline.state().params["model.code_num"] == 128

    def test_knows_a_number_in_both_its_spellings(self, pipeline: Pipeline) -> None:
        # DVC reads 1e-3 as a number and locks 0.001, pyyaml reads it as text: this refused to publish
        lock = pipeline.folder / "dvc.lock"
        lock.write_text(lock.read_text().replace("model.code_num: 64", "train_sasrec.learning_rate: 0.001"))
        pipeline.set_param("learning_rate", "1e-3")
        assert pipeline.state().params["train_sasrec.learning_rate"] == 0.001

    @pytest.mark.parametrize("name", ["dvc.yaml", "dvc.lock"])
    def test_needs_a_pipeline_that_ran(self, pipeline: Pipeline, name: str) -> None:
        (pipeline.folder / name).unlink()
        with pytest.raises(UserError, match=f"{name} not found; run `dvc repro`"):
            pipeline.state()

    def test_names_a_lock_with_the_marks_of_a_merge(self, pipeline: Pipeline) -> None:
        with (pipeline.folder / "dvc.lock").open("a") as lock:
            lock.write("<<<<<<< HEAD\n")
        with pytest.raises(UserError, match="dvc.lock is not valid YAML"):
            pipeline.state()


class TestPoints:
    def test_are_the_curves_by_epoch_without_the_blank_cells(self, pipeline: Pipeline) -> None:
        curve = {step: value for (name, step), value in pipeline.state().curves.items() if "val_" in name}
        assert curve == {1: 0.1, 2: 0.2, 3: 0.3}

    def test_are_the_numbers_of_the_reports_under_the_names_of_their_stages(self, pipeline: Pipeline) -> None:
        expected = {("stages/evaluate_tiger/test/recall_at_10", 0): 0.25, ("stages/evaluate_tiger/n_users", 0): 300}
        assert FIGURES["test"]["protocol"] == "full ranking"
        assert pipeline.state().figures == expected

    def test_do_not_hide_a_figure_behind_the_last_epoch_of_a_curve_of_the_same_name(self, pipeline: Pipeline) -> None:
        figures = pipeline.folder / "reports" / "train_tiger" / "metrics.json"
        figures.write_text(json.dumps({"val_ndcg_at_10": 0.9, "best_epoch": 3}))
        points = pipeline.state().points(Execution.current())
        assert points["train_tiger/val_ndcg_at_10", 3] == 0.3
        assert points["stages/train_tiger/val_ndcg_at_10", 0] == 0.9
        assert points["stages/train_tiger/best_epoch", 0] == 3

    def test_are_the_seconds_of_the_executed_stages(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DVC_STAGE", "train@seed+1")
        record_executed(12.5)
        assert pipeline.state().points(Execution.current())["seconds/train_seed_1", 0] == 12.5


class TestArtifacts:
    def test_are_the_files_that_rebuild_the_state(self, pipeline: Pipeline) -> None:
        names = [str(file) for file in pipeline.state().artifacts]
        assert names[:3] == ["params.yaml", "dvc.yaml", "dvc.lock"]
        assert names[3:] == [
            "reports/evaluate_tiger/metrics.json",
            "reports/results.md",
            "reports/train_tiger/history.csv",
        ]

    def test_leave_large_files_to_dvc(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("genrec.pipeline.state.MAX_ARTIFACT_BYTES", 100)
        (pipeline.folder / "reports" / "picture.png").write_bytes(b"0" * 101)
        assert "reports/picture.png" not in [str(file) for file in pipeline.state().artifacts]


class TestTags:
    def test_say_which_commit_it_is_and_how_to_return_to_it(self, pipeline: Pipeline) -> None:
        git("init", "--quiet")
        git("add", "params.yaml", "dvc.yaml", "dvc.lock", "reports")
        git("commit", "--quiet", "--message", "state")
        commit, tags = git("rev-parse", "HEAD"), tags_of(pipeline)
        assert (tags["git.commit"], tags["git.dirty"]) == (commit, "false")
        assert f"git checkout {commit}\ndvc checkout" in tags["mlflow.note.content"]
        assert pipeline.state().name == f"{commit[:7]}-{pipeline.state().fingerprint[:7]}"

    def test_do_not_say_that_it_stands_in_a_commit_without_its_lock(self, pipeline: Pipeline) -> None:
        # the first run of a new project: nothing tracked has changed, and yet the commit has no dvc.lock
        git("init", "--quiet")
        git("add", "params.yaml", "dvc.yaml")
        git("commit", "--quiet", "--message", "code")
        tags = tags_of(pipeline)
        assert tags["git.dirty"] == "true"
        assert "mlflow artifacts download" in tags["mlflow.note.content"]

    def test_of_an_uncommitted_state_lead_back_through_its_artifacts(self, pipeline: Pipeline) -> None:
        assert "mlflow artifacts download --run-id run-7" in tags_of(pipeline)["mlflow.note.content"]
        assert pipeline.state().name == pipeline.state().fingerprint[:7]

    def test_tell_executed_stages_from_cached_ones(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DVC_STAGE", "train_tiger")
        record_executed(12.5)
        tags = tags_of(pipeline)
        assert (tags["pipeline.executed"], tags["pipeline.cached"]) == ("train_tiger", "prepare_data")

    def test_name_the_models_by_their_hashes_and_not_the_reports(self, pipeline: Pipeline) -> None:
        models = {name: value for name, value in tags_of(pipeline).items() if name.startswith("model.")}
        assert models == {"model.train_tiger.dvc_md5": f"{64:032d}  data/tiger"}


def test_the_fake_params_are_those_of_the_project(pipeline: Pipeline) -> None:
    assert pipeline.state().params["model.code_num"] == read_params().model.code_num == 64
