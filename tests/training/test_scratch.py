"""Scratch: kept when a stage breaks off, gone when it ends, never another state's."""

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from genrec.training.scratch import scratch

PROJECT = Path(__file__).resolve().parents[2]


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


class TestTheSameTrainingTwiceAtOnce:
    """Workers of DVC's queue shared a folder, and the first to end removed the best weights of the other."""

    def test_each_has_a_folder_of_its_own(self, project):
        with scratch("train", [7], []) as first:
            (first / "best.ckpt").write_text("weights")
            with scratch("train", [7], []) as second:
                assert second != first
                assert list(second.iterdir()) == []
            assert (first / "best.ckpt").exists()
        assert list(first.parent.iterdir()) == []

    def test_one_that_ends_first_leaves_the_other_its_own(self, project):
        first, second = (scratch("train", [7], []) for _ in range(2))
        folders = first.__enter__(), second.__enter__()
        (folders[1] / "best.ckpt").write_text("weights")
        first.__exit__(None, None, None)
        assert (folders[1] / "best.ckpt").exists()
        second.__exit__(None, None, None)
        assert list(folders[0].parent.iterdir()) == []

    def test_killed_ones_block_nobody_and_are_gone_on_from(self, project):
        script = (
            "import os, sys\n"
            "from genrec.training.scratch import scratch\n"
            "with scratch('train', [7], []) as folder:\n"
            "    (folder / 'last.ckpt').write_text(sys.argv[1])\n"
            "    print(folder, flush=True)\n"
            "    sys.stdin.read()\n"
        )
        workers = []
        for name in "ab":
            worker = subprocess.Popen(
                [sys.executable, "-c", script, name], env={**os.environ, "PYTHONPATH": str(PROJECT)}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            workers.append((worker, Path(worker.stdout.readline().strip())))
        assert workers[0][1] != workers[1][1]
        for worker, _ in workers:
            worker.kill()
            worker.communicate()
        with scratch("train", [7], []) as first, scratch("train", [7], []) as second:
            assert [(folder / "last.ckpt").read_text() for folder in (first, second)] == ["a", "b"]

    def test_what_killed_ones_left_goes_away_with_the_one_that_ends_well(self, project):
        with pytest.raises(KeyboardInterrupt), scratch("train", [7], []), scratch("train", [7], []):
            raise KeyboardInterrupt
        with scratch("train", [7], []) as folder:
            assert len(list(folder.parent.iterdir())) == 2
        assert list(folder.parent.iterdir()) == []


# What a stage reads, by its source.

STAGES = [file for file in sorted((PROJECT / "stages").glob("*.py")) if "with stage.scratch(" in file.read_text()]


def section_of(value):
    """`Evaluate.item_knn` of `read_section(Evaluate).item_knn`, `seed` of `read_seed()`; None of anything else."""
    if isinstance(value, ast.Attribute) and (section := section_of(value.value)):
        return f"{section}.{value.attr}"
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        if value.func.id == "read_section":
            return value.args[0].id
        if value.func.id == "read_seed":
            return "seed"
    return None


def call_of_scratch(tree):
    (call,) = (
        node for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "stage.scratch"
    )  # fmt: skip
    return call


def assignments(tree):
    """Each variable with what it is made of; of `a, b = 1, 2` both."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            (target,) = node.targets
            both = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            pairs = zip(target.elts, node.value.elts, strict=True) if both else [(target, node.value)]
            yield from ((name, value) for name, value in pairs if isinstance(name, ast.Name))


def sections_by_variable(tree):
    return {name.id: section for name, value in assignments(tree) if (section := section_of(value))}


def sections_read(tree):
    """Each reading by its longest form: of `read_section(Evaluate).item_knn` not `Evaluate` too."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    readings = {section_of(node) for node in ast.walk(tree) if id(node) not in inner} - {None}
    # the progress bar can not change a result
    return {reading for reading in readings if not reading.startswith("Runtime")}


def test_every_stage_that_trains_is_looked_at():
    assert [file.stem for file in STAGES] == [
        "train_etegrec", "train_parallel", "train_ranker", "train_rqvae", "train_sasrec", "train_tiger",
        "train_two_tower",
    ]  # fmt: skip


@pytest.mark.parametrize("stage", STAGES, ids=lambda file: file.stem)
def test_every_section_that_a_stage_reads_is_part_of_its_key(stage):
    # train_ranker read evaluate.item_knn, on which its rows depend: killed and run again with another window, it went
    # on from the other rows' weights
    tree = ast.parse(stage.read_text())
    variables = sections_by_variable(tree)
    call = call_of_scratch(tree)
    keyed = {
        variables[value.id] for value in call.args[0].elts if isinstance(value, ast.Name) and value.id in variables
    }
    assert keyed | {"Trainer", "seed"} == sections_read(tree)  # `TrainingStage.scratch` adds these two


# What a stage reads of data/, by dvc.yaml.

CODE_TABLES = {"data/code_table.npy", "data/etegrec_code_table.npy"}  # train_ranker has each from its generator's entry


def names_behind(expression, tree):
    """The names of an expression, and of what the variables in it were made of."""
    made = {name.id: value for name, value in assignments(tree)}
    found, left = set(), [expression]
    while left:
        new = {node.id for node in ast.walk(left.pop()) if isinstance(node, ast.Name)} - found
        found |= new
        left += [made[name] for name in new if name in made]
    return found


@pytest.mark.parametrize("stage", STAGES, ids=lambda file: file.stem)
def test_every_file_that_a_stage_reads_is_part_of_its_key(stage):
    tree = ast.parse(stage.read_text())
    names = names_behind(call_of_scratch(tree).args[1], tree)
    places = {
        node.targets[0].id: node.value.args[0].value
        for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Path(")
    }  # fmt: skip
    keyed = {places[name] for name in names & places.keys()}
    deps = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage.stem]["deps"]
    read = {dep for dep in deps if dep.startswith("data/")}
    if stage.stem == "train_ranker":
        assert "described_by" in stage.read_text()
        assert "table" in names
        read -= CODE_TABLES
    assert keyed == read
