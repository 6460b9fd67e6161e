"""Scratch: kept when a stage breaks off, gone when it ends, never another state's."""

from dataclasses import dataclass

import pytest

from genrec.training.scratch import scratch


@dataclass(frozen=True)
class Settings:
    learning_rate: float


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "genrec").mkdir()
    (tmp_path / "genrec/model.py").write_text("a = 1")
    (tmp_path / "input").write_text("data")
    return tmp_path


def folder_of(settings, project, name="train"):
    with scratch(name, settings, [project / "input"]) as folder:
        return folder


def test_a_stage_that_ends_well_leaves_nothing(project):
    with scratch("train", [], []) as folder:
        (folder / "last.ckpt").write_text("weights")
    assert not folder.exists()


def test_a_stage_that_breaks_off_finds_its_files_again(project):
    def break_off():
        with scratch("train", [Settings(0.1), 7], [project / "input"]) as folder:
            (folder / "last.ckpt").write_text("weights")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    with scratch("train", [Settings(0.1), 7], [project / "input"]) as again:
        assert (again / "last.ckpt").read_text() == "weights"


def test_a_scratch_that_was_half_removed_is_not_gone_on_from(project, monkeypatch):
    # A kill while the folder was removed left last.ckpt without the best weights that it names.
    def killed(folder, **options):
        (folder / "best.ckpt").unlink(missing_ok=True)
        raise KeyboardInterrupt

    def end_well():
        with scratch("train", [], []) as folder:
            for name in ("best.ckpt", "last.ckpt"):
                (folder / name).write_text("weights")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            end_well()
    with scratch("train", [], []) as folder:
        assert list(folder.iterdir()) == []
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize("change", ["stage", "settings", "input", "code"])
def test_a_changed_stage_setting_input_or_code_starts_afresh(project, change):
    before = folder_of([Settings(0.1)], project)
    if change == "input":
        (project / "input").write_text("other")
    if change == "code":
        (project / "genrec/model.py").write_text("a = 2")
    settings = [Settings(0.2 if change == "settings" else 0.1)]
    assert folder_of(settings, project, "other" if change == "stage" else "train") != before


def test_queued_runs_keep_their_scratch_in_the_project_that_dvc_names(project, tmp_path_factory, monkeypatch):
    root = tmp_path_factory.mktemp("root")
    monkeypatch.setenv("DVC_ROOT", str(root))
    with scratch("train", [], []) as folder:
        assert folder.is_relative_to(root / ".genrec/scratch")


def test_another_folder_starts_afresh(project, tmp_path, monkeypatch):
    # a checkpoint names the files beside it by their whole paths
    here = folder_of([Settings(0.1)], project).name
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))
    assert folder_of([Settings(0.1)], project).name != here
