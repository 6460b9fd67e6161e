"""One complete run per state: built from files, found again, completed after a kill, never doubled, never mixed."""

import math
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_pipeline import CURVE, PROJECT, Pipeline, start_python

from genrec.errors import UserError
from genrec.params.reading import flatten, read_params
from genrec.pipeline import tracking
from genrec.pipeline.command import run_command
from genrec.pipeline.execution import Execution, record_executed
from genrec.pipeline.run_store import Publication, Store, found_publication
from genrec.pipeline.tracking import live_curves, publish, record_trial
from stages import track

# SQLAlchemy 2.1 about MLflow's own tables.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


class TestPublishedRun:
    def test_is_finished_and_holds_all_parameters(self, pipeline: Pipeline) -> None:
        publish()
        run = pipeline.run()
        assert run.info.status == "FINISHED"
        assert run.data.params == {name: str(value) for name, value in flatten(read_params()).items()}

    def test_holds_the_figures_under_the_names_of_their_stages(self, pipeline: Pipeline) -> None:
        publish()
        metrics = pipeline.run().data.metrics
        assert metrics["stages/evaluate_tiger/test/recall_at_10"] == 0.25
        assert metrics["stages/evaluate_tiger/n_users"] == 300
        assert "stages/evaluate_tiger/test/protocol" not in metrics

    def test_holds_the_curves_by_epoch_without_the_blank_cells(self, pipeline: Pipeline) -> None:
        publish()
        run = pipeline.run()
        assert pipeline.points(run, "train_tiger/val_ndcg_at_10") == [(1, 0.1), (2, 0.2), (3, 0.3)]
        assert [epoch for epoch, _ in pipeline.points(run, "train_tiger/train_loss")] == [1, 2, 3, 4]

    def test_holds_the_files_that_rebuild_the_state(self, pipeline: Pipeline, tmp_path: Path) -> None:
        publish()
        pipeline.client.download_artifacts(pipeline.run().info.run_id, "", str(tmp_path))
        for name in ("params.yaml", "dvc.yaml", "dvc.lock", "reports/train_tiger/history.csv", "reports/results.md"):
            assert (tmp_path / name).read_bytes() == (pipeline.folder / name).read_bytes()
        assert "mlflow==" in (tmp_path / "pip-freeze.txt").read_text()

    def test_names_data_set_and_models_by_their_hashes(self, pipeline: Pipeline) -> None:
        publish()
        run = pipeline.run()
        (data,) = run.inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest) == ("ml-100k", "d" * 32 + ".dir")
        assert run.data.tags["model.train_tiger.dvc_md5"] == f"{64:032d}  data/tiger"

    def test_of_an_uncommitted_state_leads_back_through_its_artifacts(self, pipeline: Pipeline) -> None:
        publish()
        run = pipeline.run()
        assert f"mlflow artifacts download --run-id {run.info.run_id}" in run.data.tags["mlflow.note.content"]

    def test_carries_the_experiment(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DVC_EXP_NAME", "wide+deep")
        monkeypatch.setenv("DVC_EXP_BASELINE_REV", "b" * 40)
        publish()
        run = pipeline.run()
        assert run.info.run_name == run.data.tags["dvc.exp_name"] == "wide+deep"
        assert run.data.tags["dvc.baseline_rev"] == run.data.tags["dvc.exp.wide_deep"] == "b" * 40
        assert "dvc exp apply wide+deep" in run.data.tags["mlflow.note.content"]

    def test_tells_executed_stages_from_cached_ones(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DVC_STAGE", "train_tiger")
        record_executed(12.5)
        publish()
        run = pipeline.run()
        assert run.data.metrics["seconds/train_tiger"] == 12.5
        assert run.data.tags["pipeline.executed"] == "train_tiger"
        assert run.data.tags["pipeline.cached"] == "prepare_data"
        assert Execution.current().executed() == {}

    def test_knows_nothing_of_the_environment(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter-two")
        publish()
        stored = [file for file in pipeline.folder.rglob("*") if file.is_file()]
        assert not [file for file in stored if b"hunter-two" in file.read_bytes()]


class TestStateIsPublishedOnce:
    def test_again_gives_the_same_run(self, pipeline: Pipeline) -> None:
        first, second = publish(), publish()
        assert first is not None
        assert second is not None
        assert (first.outcome, second.outcome) == ("created", "already published")
        assert first.run_id == second.run_id == pipeline.run().info.run_id

    def test_a_package_that_could_not_be_registered_is_registered_by_the_next(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        called = []

        def register(*arguments: Any) -> None:
            called.append(arguments)
            if len(called) == 1:
                raise OSError("the registry is gone")

        monkeypatch.setattr(tracking, "register_package", register)
        with pytest.raises(UserError, match="the registry is gone"):
            publish()
        assert found_publication(pipeline.folder, Execution.current()) is None
        publication = publish()
        assert publication is not None
        assert (publication.outcome, len(called)) == ("completed", 2)
        assert pipeline.run().info.status == "FINISHED"

    def test_again_imports_nothing_that_takes_time(self, pipeline: Pipeline) -> None:
        publish()
        script = "import sys; from stages import track; track.main(); print({'mlflow', 'pydantic'} & set(sys.modules))"
        process = start_python(pipeline.folder, "-c", script)
        output, errors = process.communicate()
        assert "already published" in output, errors
        assert output.endswith("set()\n")

    @pytest.mark.parametrize("name", ["params.yaml", "dvc.lock", "reports/train_tiger/history.csv"])
    def test_a_changed_file_is_looked_at(self, pipeline: Pipeline, name: str) -> None:
        publish()
        assert found_publication(pipeline.folder, Execution.current()) is not None
        file = pipeline.folder / name
        file.write_text(file.read_text() + "\n")
        assert found_publication(pipeline.folder, Execution.current()) is None

    def test_what_dvc_locks_of_the_publication_itself_makes_no_other_state(self, pipeline: Pipeline) -> None:
        # DVC writes it after `track` has ended: each first repro without work would import mlflow
        first = publish()
        lock = pipeline.folder / "dvc.lock"
        entry = "  track:\n    cmd: python -m stages.track\n    deps:\n    - path: stages/track.py\n      hash: md5\n"
        lock.write_text(lock.read_text().replace("stages:\n", f"stages:\n{entry}", 1))
        assert first is not None
        assert found_publication(pipeline.folder, Execution.current()) == replace(first, outcome="already published")
        lock.write_text(lock.read_text() + entry.replace("track", "train_sasrec", 1))
        assert found_publication(pipeline.folder, Execution.current()) is None

    def test_a_comment_makes_no_other_state(self, pipeline: Pipeline) -> None:
        first = publish()
        pipeline.set_param("code_num", "64  # as before")
        assert first is not None
        assert found_publication(pipeline.folder, Execution.current()) is None
        again = publish()
        assert again is not None
        assert (again.run_id, again.outcome) == (first.run_id, "already published")
        assert found_publication(pipeline.folder, Execution.current()) == again

    def test_there_and_back_gives_two_runs(self, pipeline: Pipeline) -> None:
        for code_num in (64, 128, 64):
            pipeline.write(code_num=code_num)
            publish()
        assert [run.data.params["model.code_num"] for run in pipeline.runs()] == ["64", "128"]

    def test_another_experiment_with_the_same_state_only_adds_its_name(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish()
        monkeypatch.setenv("DVC_EXP_NAME", "twin")
        publish()
        assert "dvc.exp.twin" in pipeline.run().data.tags

    def test_a_half_filled_run_is_completed(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        def break_off(*_: object) -> None:
            raise RuntimeError("killed")

        with monkeypatch.context() as broken:
            broken.setattr(tracking, "_log_files", break_off)
            with pytest.raises(RuntimeError, match="killed"):
                publish()
        failed = pipeline.run()
        assert failed.info.status == "FAILED"
        # a param outside of the fingerprint may differ by then, and MLflow forbids to change one
        pipeline.set_param("progress_bar", "false")
        publication = publish()
        assert publication is not None
        assert publication.outcome == "completed"
        completed = pipeline.run()
        assert (completed.info.run_id, completed.info.status) == (failed.info.run_id, "FINISHED")
        assert len(pipeline.points(completed, "train_tiger/val_ndcg_at_10")) == len(CURVE)

    @pytest.mark.slow
    def test_a_deleted_store_comes_back_complete(self, pipeline: Pipeline) -> None:
        publish()
        (pipeline.folder / "mlflow.db").unlink()
        process = start_python(pipeline.folder, "-m", "stages.track")
        output, errors = process.communicate()
        assert "created" in output, errors
        run = pipeline.run()
        assert run.info.status == "FINISHED"
        assert len(pipeline.points(run, "train_tiger/val_ndcg_at_10")) == len(CURVE)

    @pytest.mark.slow
    def test_four_processes_share_a_store_that_does_not_exist_yet(
        self, bare_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # without the lock, three of four crash in the migrations
        folders = [bare_pipeline.folder / str(code_num) for code_num in (32, 64, 128, 256)]
        monkeypatch.setenv("DVC_ROOT", str(bare_pipeline.folder))
        for folder in folders:
            folder.mkdir()
            shutil.copy(PROJECT / "params.yaml", folder)
            Pipeline(folder).write(code_num=int(folder.name))
        processes = [start_python(folder, "-m", "stages.track") for folder in folders]
        errors = [process.communicate()[1] for process in processes]
        assert [process.returncode for process in processes] == [0] * 4, errors
        assert sorted(int(run.data.params["model.code_num"]) for run in bare_pipeline.runs()) == [32, 64, 128, 256]
        assert {run.info.status for run in bare_pipeline.runs()} == {"FINISHED"}


class TestLiveCurves:
    def test_appear_while_training(self, pipeline: Pipeline) -> None:
        live_curves("train_tiger")(1, {"val_ndcg_at_10": 0.1})
        run = pipeline.run()
        assert run.info.status == "RUNNING"
        assert run.data.params["model.code_num"] == "64"
        assert pipeline.points(run, "train_tiger/val_ndcg_at_10") == [(1, 0.1)]

    @pytest.mark.parametrize(("stage", "status"), [(None, "KILLED"), ("train_tiger", "RUNNING")])
    @pytest.mark.parametrize("end", ["", "; raise SystemExit(3)"])
    def test_of_a_stage_that_is_run_by_hand_end_with_it(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, stage: str | None, status: str, end: str
    ) -> None:
        # nothing follows that would complete the run, which stayed RUNNING for good
        if stage is not None:
            monkeypatch.setenv("DVC_STAGE", stage)
        script = (
            "from genrec.pipeline.tracking import live_curves; live_curves('train_tiger')(1, {'val_ndcg_at_10': 0.1})"
        )
        process = start_python(pipeline.folder, "-c", script + end)
        _, errors = process.communicate()
        assert "Traceback" not in errors
        run = pipeline.run()
        assert run.info.status == status
        assert pipeline.points(run, "train_tiger/val_ndcg_at_10") == [(1, 0.1)]
        publish()
        assert pipeline.run().info.status == "FINISHED"

    def test_of_all_stages_share_the_run_that_is_published(self, pipeline: Pipeline) -> None:
        live_curves("train_tiger")(1, {"val_ndcg_at_10": 0.1})
        live_curves("train_tiger")(2, {"val_ndcg_at_10": 0.2 + 1e-9})  # history.csv is rounded
        live = pipeline.run()
        publication = publish()
        run = pipeline.run()
        assert publication is not None
        assert publication.outcome == "completed"
        assert (run.info.run_id, run.info.status) == (live.info.run_id, "FINISHED")
        assert [epoch for epoch, _ in pipeline.points(run, "train_tiger/val_ndcg_at_10")] == [1, 2, 3]
        assert not [tag for tag in run.data.tags if tag.startswith(tracking.LIVE)]

    def test_that_a_kill_left_wrong_are_replaced_by_those_of_the_files(self, pipeline: Pipeline) -> None:
        live_curves("train_tiger")(1, {"val_ndcg_at_10": 0.9})
        publish()
        run = pipeline.run()
        assert run.info.status == "FINISHED"
        assert pipeline.points(run, "train_tiger/val_ndcg_at_10") == [(1, 0.1), (2, 0.2), (3, 0.3)]

    def test_of_a_published_state_vanish_when_it_is_forced_again(self, pipeline: Pipeline) -> None:
        first = publish()
        assert first is not None
        live_curves("train_tiger")(1, {"val_ndcg_at_10": 0.1})
        assert len(pipeline.runs()) == 2
        again = publish()
        assert again is not None
        assert again.outcome == "already published"
        assert (pipeline.run().info.run_id, pipeline.run().info.status) == (first.run_id, "FINISHED")

    def test_of_other_parameters_end_as_killed(self, pipeline: Pipeline) -> None:
        live_curves("train_tiger")(1, {"val_ndcg_at_10": 0.1})
        pipeline.write(code_num=128)
        live_curves("train_tiger")(1, {"val_ndcg_at_10": 0.1})
        publish()
        states = [(run.data.params["model.code_num"], run.info.status) for run in pipeline.runs()]
        assert states == [("64", "KILLED"), ("128", "FINISHED")]

    def test_of_two_experiments_do_not_mix(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("one", "two"):
            monkeypatch.setenv("DVC_EXP_NAME", name)
            live_curves("train_tiger")(1, {"val_ndcg_at_10": 0.1})
        one, two = pipeline.runs()
        publish()
        statuses = {run.info.run_id: run.info.status for run in pipeline.runs()}
        assert statuses == {one.info.run_id: "RUNNING", two.info.run_id: "FINISHED"}

    def test_of_an_experiment_whose_dvc_has_died_do_not_run_for_ever(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ended = start_python(pipeline.folder, "-c", "pass")
        ended.communicate()
        with monkeypatch.context() as dead:
            dead.setenv("DVC_EXP_NAME", "out-of-memory")
            dead.setattr(os, "getppid", lambda: ended.pid)
            live_curves("train_tiger")(1, {"val_ndcg_at_10": 0.1})
        publish()
        assert [run.info.status for run in pipeline.runs()] == ["KILLED", "FINISHED"]

    def test_keep_a_metric_that_is_not_a_number(self, pipeline: Pipeline) -> None:
        pipeline.write(curve=[0.1, math.nan])
        live_curves("train_tiger")(2, {"val_ndcg_at_10": math.nan})
        live = pipeline.run()
        publish()
        assert pipeline.run().info.run_id == live.info.run_id

    def test_never_stop_a_training(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
        listener = live_curves("train_tiger")
        for epoch in (1, 2):
            listener(epoch, {"val_ndcg_at_10": 0.1})
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(
            "warning: no more live curves of train_tiger, the training goes on; MLflow at http://127"
        )
        assert "secret" not in line


class TestStore:
    def test_that_does_not_answer_fails_the_stage_with_one_line(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
        monkeypatch.setenv("DVC_STAGE", "train_tiger")
        record_executed(1)
        with pytest.raises(SystemExit) as end:
            run_command(track.main)
        message = str(end.value)
        assert message.startswith("error: MLflow at http://127.0.0.1:9 failed: ")
        assert "secret" not in message
        assert "\n" not in message
        assert Execution.current().executed(), "the next repro publishes the durations"

    def test_that_is_not_a_database_is_refused_at_once(self, pipeline: Pipeline) -> None:
        (pipeline.folder / "mlflow.db").write_text("mistaken for a database")
        with pytest.raises(UserError, match="mlflow.db failed: the file is not a database"):
            publish()

    def test_that_is_locked_is_tried_again(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        from sqlalchemy.exc import OperationalError

        answers = iter([OperationalError("SELECT 1", {}, Exception("database is locked"))] * 2)
        publish_once = tracking._publish

        def busy_twice(*arguments: Any) -> Publication:
            for trouble in answers:
                raise trouble
            return publish_once(*arguments)

        monkeypatch.setattr(tracking, "_publish", busy_twice)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        publish()
        assert pipeline.run().info.status == "FINISHED"

    def test_of_a_temporary_folder_is_the_projects(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        # `dvc exp run --queue` works in a folder that it deletes afterwards
        folder = pipeline.folder / "tmp"
        folder.mkdir()
        for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
            shutil.move(pipeline.folder / name, folder)
        shutil.move(pipeline.folder / "reports", folder)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DVC_ROOT", str(pipeline.folder))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        publish()
        assert pipeline.run().info.status == "FINISHED"
        assert not [file for file in folder.iterdir() if file.name.startswith("ml")]
        assert [file.name for file in (pipeline.folder / "mlartifacts").iterdir()] == [pipeline.run().info.run_id]

    @pytest.mark.parametrize(
        ("uri", "expected"),
        [
            ("", "sqlite:////project/mlflow.db"),
            ("sqlite:///runs/all.db", "sqlite:////project/runs/all.db"),
            ("sqlite:////shared/all.db", "sqlite:////shared/all.db"),
            ("sqlite:///~/all.db", "sqlite:////home/ann/all.db"),
            ("http://ann:secret@host:5000", "http://host:5000"),
            ("postgresql://ann:secret@host/runs?password=secret", "postgresql://host/runs"),
        ],
    )
    def test_is_shown_by_its_absolute_address_without_credentials(
        self, monkeypatch: pytest.MonkeyPatch, uri: str, expected: str
    ) -> None:
        monkeypatch.setenv("HOME", "/home/ann")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert Store.find(Path("/project")).shown == expected

    def test_of_files_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
        with pytest.raises(UserError, match="must be a server or a database"):
            Store.find(Path("/project"))

    def test_whose_experiment_was_deleted_says_so(self, pipeline: Pipeline) -> None:
        publish()
        pipeline.client.delete_experiment(pipeline.run().info.experiment_id)
        with pytest.raises(UserError, match="experiment 'genrec' of .* is deleted"):
            publish()


class TestTrackingOff:
    @pytest.fixture(params=["environment", "params"])
    def _off(self, request: pytest.FixtureRequest, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        if request.param == "environment":
            monkeypatch.setenv("GENREC_TRACKING", "off")
        else:
            pipeline.set_param("enabled", "false")

    @pytest.mark.usefixtures("_off")
    def test_publishes_nothing_and_says_so(self, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
        live_curves("train_tiger")(1, {"val_ndcg_at_10": 0.1})
        track.main()
        assert capsys.readouterr().out == "tracking is off: no run published\n"
        assert pipeline.runs() == []


class TestTrials:
    """Of a search: `genrec.search`."""

    @pytest.fixture
    def trial(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        """A stage of the trial has logged its curve."""
        monkeypatch.setenv("DVC_EXP_NAME", "wide-0001")
        live_curves("train_tiger")(1, {"val_ndcg_at_10": 0.1})

    @pytest.mark.usefixtures("trial")
    def test_the_run_that_a_stage_opened_is_completed_with_the_objective(self, pipeline: Pipeline) -> None:
        record_trial(pipeline.folder, "genrec", "wide-0001", {"model.code_num": 64}, {"train_tiger/best_val": 0.25})
        run = pipeline.run()
        assert (run.info.run_name, run.info.status) == ("wide-0001", "FINISHED")
        assert run.data.metrics == {"train_tiger/val_ndcg_at_10": 0.1, "train_tiger/best_val": 0.25}
        assert run.data.params == {name: str(value) for name, value in flatten(read_params()).items()}
        assert "genrec.live" not in run.data.tags

    def test_one_that_failed_or_was_cached_has_a_run_with_what_was_varied(self, pipeline: Pipeline) -> None:
        record_trial(pipeline.folder, "genrec", "wide-0002", {"model.code_num": 32}, {})
        run = pipeline.run()
        assert (run.info.run_name, run.info.status) == ("wide-0002", "FAILED")
        assert run.data.params == {"model.code_num": "32"}

    def test_where_tracking_is_off_there_is_none(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GENREC_TRACKING", "off")
        record_trial(pipeline.folder, "genrec", "wide-0002", {}, {})
        assert pipeline.runs() == []

    @pytest.mark.usefixtures("trial")
    def test_a_run_of_the_same_name_that_an_earlier_search_left_stays_as_it_is(self, pipeline: Pipeline) -> None:
        record_trial(pipeline.folder, "genrec", "wide-0001", {}, {"train_tiger/best_val": 0.25})
        record_trial(pipeline.folder, "genrec", "wide-0001", {}, {})
        assert [run.info.status for run in pipeline.runs()] == ["FINISHED", "FAILED"]
