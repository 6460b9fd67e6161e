"""The pipeline reruns exactly what has changed, and every room keeps its place; architecture.py holds what looks."""

import ast
from pathlib import Path, PurePosixPath

import pytest
from architecture import (
    MOST_LINES,
    PROJECT,
    SECTIONS,
    UNITS,
    Project,
    effects,
    impure_sections,
    is_code,
    misplaced,
    not_before,
    outputs,
    paths,
    sections_read,
    without_stages,
    wrong_commands,
    wrong_deps,
    wrong_imports,
    wrong_order,
    wrong_params,
    wrong_paths,
)

from genrec.params.reading import read_yaml

BESIDE_THE_ROOMS = {"genrec/generators", "genrec/params", "genrec/pipeline"}
STAGES = list(Project(PROJECT).stages)


@pytest.fixture(scope="module")
def project() -> Project:
    return Project(PROJECT)


def report(problems: list[str]) -> None:
    if problems:
        pytest.fail("\n".join(["", *problems]), pytrace=False)


class TestPipeline:
    @pytest.mark.parametrize("stage", STAGES)
    def test_a_stage_depends_on_all_the_code_that_it_imports_and_on_no_other(
        self, project: Project, stage: str
    ) -> None:
        report(wrong_deps(project, stage))

    @pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "track"])
    def test_a_stage_reads_and_writes_the_paths_that_its_file_names(self, project: Project, stage: str) -> None:
        report(wrong_paths(project, stage))

    @pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "track"])
    def test_a_stage_depends_on_the_params_that_it_reads(self, project: Project, stage: str) -> None:
        report(wrong_params(project, stage))

    def test_every_section_of_the_params_is_read_by_a_stage(self, project: Project) -> None:
        # `track` reads its section through the observers
        read = {"track"}.union(*(sections_read(project.code[project.file_of_stage(stage)]) for stage in STAGES))
        assert set(SECTIONS) == {key.partition(".")[0] for key in read}

    def test_a_stage_has_the_name_of_its_file(self, project: Project) -> None:
        report(wrong_commands(project))

    def test_stages_stand_in_the_order_in_which_data_flow(self, project: Project) -> None:
        report(wrong_order(project))

    def test_tracking_comes_after_everything_and_depends_on_reports_alone(self, project: Project) -> None:
        report(not_before(project, "track"))
        assert [dep for dep in paths(project.stages["track"], "deps") if not is_code(dep)] == ["reports"]

    def test_the_stage_that_always_runs_has_a_lock_of_its_own_and_the_last_stage_waits_for_it(self) -> None:
        # DVC writes the whole lock file of each stage that ran
        last = read_yaml(PROJECT / "dvc.yaml")["stages"]["track"]
        publish = read_yaml(PROJECT / "tracking" / "dvc.yaml")["stages"]["publish"]
        assert publish.pop("always_changed")
        assert "always_changed" not in (PROJECT / "dvc.yaml").read_text(encoding="utf-8")
        assert {**publish, "deps": outputs(publish)} == {**publish, **last}

    def test_each_generator_of_the_list_is_trained_and_evaluated(self, project: Project) -> None:
        report(without_stages(project))

    def test_the_pipeline_is_read_in_one_sitting(self) -> None:
        assert len((PROJECT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


class TestRooms:
    @pytest.mark.parametrize("unit", sorted(UNITS - BESIDE_THE_ROOMS))
    def test_a_folder_that_counts_as_one_holds_nothing_that_no_stage_uses(self, project: Project, unit: str) -> None:
        # the product quantizer, which no stage used, stood in codes/: a comment in it would have trained RQ-VAE again
        used = set().union(*(project.used_by(stage) for stage in project.stages))
        inside = {file for file in project.code if file.startswith(f"{unit}/") and not project.is_bare_package(file)}
        assert inside - used == set()

    def test_sections_hold_types_and_checks_alone(self, project: Project) -> None:
        report(impure_sections(project))

    def test_imports_point_downwards_and_outside_tools_have_one_home(self, project: Project) -> None:
        report(wrong_imports(project))

    def test_every_file_has_its_place_and_a_name_that_says_what_it_holds(self, project: Project) -> None:
        report(misplaced(project))

    def test_no_import_has_an_effect(self, project: Project) -> None:
        report([problem for file, tree in project.code.items() for problem in effects(file, tree)])

    def test_every_file_says_first_what_it_is(self, project: Project) -> None:
        assert [file for file, tree in project.code.items() if not ast.get_docstring(tree)] == []


FAKE_CODE = {
    "genrec/__init__.py": '"""A package."""',
    "genrec/errors.py": '"""Leaf."""\nclass UserError: ...',
    "genrec/params/model.py": '"""A section."""\nfrom genrec.params.types import section',
    "genrec/params/types.py": '"""Types."""\ndef section(): ...',
    "genrec/params/reading.py": '"""The reader."""\nimport yaml\nfrom genrec.errors import UserError',
    "genrec/generators/tiger.py": """
'''An entry.'''
from pathlib import Path, PurePosixPath
from genrec.params.types import section
ENTRY = GeneratorEntry(name="tiger", title="TIGER", place=1, network="genrec.networks.tiger.TigerNetwork",
    ranks="beams", code_table=Path("data/code_table.npy"))
@section
class TrainTiger:
    width: int
""",
    "genrec/pipeline/execution.py": '"""Observer."""\nimport json',
    "genrec/pipeline/command.py": '"""Observer."""\nfrom genrec.pipeline.execution import record_executed',
    "genrec/pipeline/tracking.py": '"""Observer."""\nimport genrec.params.reading\ndef publish():\n    import mlflow',
    "genrec/codes/code_table.py": '"""A table."""\nfrom genrec.errors import UserError',
    "genrec/codes/kmeans.py": '"""Centres."""',
    "genrec/networks/__init__.py": '"""A facade."""\nfrom importlib import import_module\n_HOMES = {"rank": "ranks"}\n'
    "__all__ = list(_HOMES)\ndef __getattr__(name): import_module(name)",
    "genrec/layers/dropout.py": '"""A layer."""\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy',
    "genrec/layers/norm.py": '"""Another layer that the network uses."""',
    "genrec/networks/tiger.py": '"""A network."""\nimport genrec.layers.dropout, genrec.layers.norm\n'
    "if TYPE_CHECKING:\n    from genrec.networks import spare",
    "genrec/networks/spare.py": '"""A network that no stage uses."""',
    "genrec/networks/unused.py": '"""Another."""',
    "stages/__init__.py": '"""Stages."""',
    "stages/evaluate.py": """
'''Evaluate.'''
from pathlib import Path, PurePosixPath
from genrec.generators.entry import generator_named
HISTORIES = Path("data/prepared")
def main(name):
    generator = generator_named(name)
    generator.network_class()(generator.checkpoint, generator.metrics)
""",
    "stages/train_tiger.py": """
'''Train.'''
from pathlib import Path, PurePosixPath
from genrec.pipeline.command import run_stage
from genrec.params.model import Model
from genrec.params.reading import read_section, read_seed
from genrec.pipeline.tracking import publish
HISTORIES = Path("data/prepared/histories.npz")
MODEL = Path("data/models/tiger.ckpt")
CURVES = Path("reports/history.csv")
def main():
    from genrec.networks.tiger import Tiger
    read_section(Model), read_section(Runtime), read_seed()
if __name__ == "__main__":
    run_stage(main, __doc__)
""",
}
FAKE_PIPELINE = """
stages:
  prepare_data:
    cmd: python -m stages.prepare_data
    outs: [data/prepared]
  train_tiger:
    cmd: python -m stages.train_tiger
    deps:
    - data/prepared/histories.npz
    - stages/train_tiger.py
    - genrec/layers
    - genrec/networks/tiger.py
    params: [seed, model]
    outs:
    - data/models/tiger.ckpt
    plots:
    - reports/history.csv: {cache: false, x: epoch}
  evaluate_tiger:
    cmd: python -m stages.evaluate tiger
    deps:
    - data/prepared
    - data/models/tiger.ckpt
    - stages/evaluate.py
    - genrec/layers
    - genrec/networks/tiger.py
    metrics:
    - reports/evaluate_tiger/metrics.json
"""


class TestTheTestsThemselves:
    """On a small project in order, and with one mistake at a time."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.root = tmp_path
        for name, text in FAKE_CODE.items():
            self.write(name, text.strip())
        self.write(
            "stages/prepare_data.py", '"""Prepare."""\nfrom pathlib import Path\nPREPARED = Path("data/prepared")'
        )
        self.write("dvc.yaml", FAKE_PIPELINE)

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def change(self, name: str, old: str, new: str) -> Project:
        """The project with one text replaced by another."""
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))
        return Project(self.root)

    def test_nothing_is_wrong_with_it(self) -> None:
        project = Project(self.root)
        checks = (wrong_deps, wrong_paths, wrong_params)
        assert [problem for check in checks for problem in check(project, "train_tiger")] == []
        assert [problem for check in checks[:2] for problem in check(project, "evaluate_tiger")] == []
        assert wrong_commands(project) + wrong_order(project) + wrong_imports(project) + misplaced(project) == []
        assert without_stages(project) + impure_sections(project) == []
        assert [problem for file, tree in project.code.items() for problem in effects(file, tree)] == []

    def test_an_undeclared_dep_is_reported_with_the_list_to_paste(self) -> None:
        project = self.change(
            "dvc.yaml", "    - genrec/layers\n    - genrec/networks/tiger.py\n    params", "    params"
        )
        (problem,) = wrong_deps(project, "train_tiger")
        assert problem == (
            "stage train_tiger: deps must be its data and the code that stages/train_tiger.py imports\n"
            "  not declared: genrec/layers, genrec/networks/tiger.py\n"
            "    deps: [data/prepared/histories.npz, stages/train_tiger.py, genrec/layers, genrec/networks/tiger.py]"
        )

    @pytest.mark.parametrize(
        "file",
        ["genrec/networks/spare.py", "genrec/pipeline/execution.py", "genrec/params/model.py", "genrec/networks"],
    )
    def test_a_superfluous_dep_is_reported(self, file: str) -> None:
        project = self.change(
            "dvc.yaml", "    - stages/train_tiger.py\n", f"    - stages/train_tiger.py\n    - {file}\n"
        )
        (problem,) = wrong_deps(project, "train_tiger")
        assert f"\n  superfluous: {file}\n" in problem

    def test_a_dep_that_stands_twice_is_reported(self) -> None:
        project = self.change("dvc.yaml", "    - stages/train_tiger.py\n", "    - stages/train_tiger.py\n" * 2)
        assert "\n  declared twice: stages/train_tiger.py\n" in wrong_deps(project, "train_tiger")[0]

    def test_a_folder_stands_for_its_files_only_where_all_are_used(self) -> None:
        project = self.change("genrec/networks/tiger.py", ", genrec.layers.norm", "")
        (problem,) = wrong_deps(project, "train_tiger")
        assert "\n  not declared: genrec/layers/dropout.py\n  superfluous: genrec/layers\n" in problem

    def test_a_folder_whose_files_change_together_stands_for_two_of_them(self) -> None:
        self.write("genrec/codes/sinkhorn.py", '"""A third."""')
        project = self.change(
            "genrec/networks/tiger.py",
            '"""A network."""',
            '"""A network."""\nimport genrec.codes.code_table, genrec.codes.kmeans',
        )
        assert "\n  not declared: genrec/codes\n" in wrong_deps(project, "train_tiger")[0]

    def test_a_stage_of_the_list_depends_on_the_network_that_its_entry_names(self) -> None:
        project = self.change("genrec/generators/tiger.py", "networks.tiger.Tiger", "networks.spare.Spare")
        (problem,) = wrong_deps(project, "evaluate_tiger")
        assert "\n  not declared: genrec/networks/spare.py\n" in problem

    def test_a_generator_without_stages_is_reported(self) -> None:
        self.write("genrec/generators/toy.py", '"""An entry."""\nENTRY = GeneratorEntry(name="toy")')
        assert without_stages(Project(self.root)) == [
            "generator toy has no stage train_toy in dvc.yaml",
            "generator toy has no stage evaluate_toy in dvc.yaml",
        ]

    @pytest.mark.parametrize(
        "line", ["width: int = 3", "@property\n    def double(self): return 2 * self.width", "X = 3"]
    )
    def test_a_section_that_does_more_than_type_its_values_is_reported(self, line: str) -> None:
        project = self.change("genrec/generators/tiger.py", "width: int", line)
        (problem,) = impure_sections(project)
        assert problem.endswith("TrainTiger must hold fields and their checks alone")

    @pytest.mark.parametrize("room", ["genrec/networks", "genrec/evaluation", "genrec/retrieval"])
    def test_lightning_is_imported_where_something_is_trained(self, room: str) -> None:
        self.write("genrec/training/lightning.py", '"""Lightning."""\nimport pytorch_lightning as pl')
        self.write(f"{room}/new.py", '"""A file."""\nfrom genrec.training.lightning import pl')
        problems = wrong_imports(Project(self.root))
        assert any(
            problem.startswith(f"{room}/new.py imports genrec.training.lightning: only what trains may")
            for problem in problems
        )

    @pytest.mark.parametrize(
        "spelling", ["import genrec.networks.spare", "from . import spare", "from .spare import x"]
    )
    def test_an_import_counts_in_each_of_its_spellings(self, spelling: str) -> None:
        project = self.change("genrec/networks/tiger.py", '"""A network."""', f'"""A network."""\n{spelling}')
        assert "\n  not declared: genrec/networks/spare.py\n" in wrong_deps(project, "train_tiger")[0]

    def test_an_init_file_with_code_counts(self) -> None:
        self.write("genrec/networks/__init__.py", '"""A room."""\nimport genrec.networks.spare')
        (problem,) = wrong_deps(Project(self.root), "train_tiger")
        assert "\n  not declared: genrec/networks/__init__.py, genrec/networks/spare.py\n" in problem

    @pytest.mark.parametrize("line", ["from math import pi", "LIMIT = 3", "def function(): ...", "import_module('x')"])
    def test_a_facade_with_code_of_its_own_counts(self, line: str) -> None:
        project = self.change("genrec/networks/__init__.py", "__all__ =", f"{line}\n__all__ =")
        (problem,) = wrong_deps(project, "train_tiger")
        assert "\n  not declared: genrec/networks/__init__.py\n" in problem

    def test_tracking_depends_on_the_observers_too(self) -> None:
        self.write("stages/track.py", '"""Track."""\nfrom genrec.pipeline.tracking import publish')
        project = self.change("dvc.yaml", "stages:", "stages:\n  track:\n    cmd: python -m stages.track")
        (problem,) = wrong_deps(project, "track")
        # all sections, since the reader lists their folders
        assert "[stages/track.py, genrec/errors.py, genrec/generators/tiger.py, genrec/params," in problem
        assert not_before(project, "track") == [
            f"stage track does not wait for {name}" for name in ("prepare_data", "train_tiger", "evaluate_tiger")
        ]

    def test_an_undeclared_section_is_reported_with_the_list_to_paste(self) -> None:
        project = self.change("dvc.yaml", "[seed, model]", "[model]")
        (problem,) = wrong_params(project, "train_tiger")
        assert problem.endswith("\n  not declared: seed\n    params: [seed, model]")

    def test_a_superfluous_section_is_reported(self) -> None:
        project = self.change("dvc.yaml", "[seed, model]", "[seed, model, runtime]")
        assert "\n  superfluous: runtime\n" in wrong_params(project, "train_tiger")[0]

    def test_a_stage_can_not_read_all_params(self) -> None:
        project = self.change("stages/train_tiger.py", "read_seed()", "read_params()")
        with pytest.raises(AssertionError, match="a stage reads sections"):
            wrong_params(project, "train_tiger")

    def test_a_path_without_a_constant_and_a_constant_without_a_path_are_reported(self) -> None:
        project = self.change("stages/train_tiger.py", "data/models/tiger.ckpt", "data/models/tiger.pt")
        assert wrong_paths(project, "train_tiger") == [
            "stage train_tiger: data/models/tiger.pt is not in dvc.yaml",
            "stage train_tiger: data/models/tiger.ckpt is not named by stages/train_tiger.py",
        ]

    def test_an_output_that_is_read_is_reported(self) -> None:
        project = self.change(
            "dvc.yaml", "    - stages/train_tiger.py\n", "    - stages/train_tiger.py\n    - data/models/tiger.ckpt\n"
        )
        assert wrong_paths(project, "train_tiger") == [
            "stage train_tiger: data/models/tiger.ckpt is both read and written"
        ]

    def test_a_stage_above_its_producer_is_reported(self) -> None:
        first, rest = FAKE_PIPELINE.split("  train_tiger:")
        second, third = rest.split("  evaluate_tiger:")
        self.write("dvc.yaml", f"{first}  evaluate_tiger:{third}  train_tiger:{second}")
        assert wrong_order(Project(self.root)) == [
            "stage evaluate_tiger stands above train_tiger, which writes what it reads"
        ]

    def test_a_stage_and_its_file_have_one_name(self) -> None:
        project = self.change("dvc.yaml", "  prepare_data:\n", "  prepare:\n")
        assert wrong_commands(project) == [
            "stage prepare: cmd must be `python -m stages.prepare`, got `python -m stages.prepare_data`"
        ]

    def test_a_file_that_no_stage_runs_and_a_stage_without_a_file_are_reported(self) -> None:
        project = self.change("dvc.yaml", "python -m stages.prepare_data", "python -m stages.prepare")
        assert wrong_commands(project) == [
            "stages/prepare_data.py is no stage of dvc.yaml",
            "stage prepare_data has no file stages/prepare.py",
            "stage prepare_data: cmd must be `python -m stages.prepare_data`, got `python -m stages.prepare`",
        ]

    @pytest.mark.parametrize(
        ("file", "line", "problem"),
        [
            (
                "genrec/layers/ranks.py",
                "from genrec.networks.tiger import Tiger",
                "must not import genrec.networks.tiger",
            ),
            ("genrec/layers/ranks.py", "import genrec.networks.spare", "must not import genrec.networks.spare"),
            ("genrec/layers/ranks.py", "from genrec.params.model import Model", "must not import genrec.params.model"),
            ("genrec/layers/ranks.py", "import stages.train_tiger", "must not import stages.train_tiger"),
            ("genrec/errors.py", "import genrec.layers.norm", "must not import genrec.layers.norm"),
            ("genrec/pipeline/command.py", "import genrec.layers.norm", "must not import genrec.layers.norm"),
            ("stages/train_tiger.py", "import stages.prepare_data", "must not import stages.prepare_data"),
            ("stages/train_tiger.py", "import yaml", "imports yaml, whose home is genrec/params/reading.py"),
            (
                "genrec/networks/tiger.py",
                "import mlflow.pytorch",
                "imports mlflow.pytorch, whose home is genrec/pipeline/tracking.py",
            ),
            ("genrec/pipeline/tracking.py", "import dvc", "imports dvc, whose home is no file"),
            (
                "genrec/networks/tiger.py",
                "import pytorch_lightning as pl",
                "imports pytorch_lightning, whose home is genrec/training/lightning.py",
            ),
            (
                "genrec/networks/tiger.py",
                "from genrec.networks import Quantizer",
                "imports genrec.networks.Quantizer from a package; import the module that owns it",
            ),
        ],
    )
    def test_an_import_out_of_place_is_reported(self, file: str, line: str, problem: str) -> None:
        for text in (line, f"if TYPE_CHECKING:\n    {line}", f"def function():\n    {line}"):
            self.write(file, f'"""A file."""\n{text}')
            assert wrong_imports(Project(self.root)) == [f"{file} {problem}"]

    def test_the_data_reader_may_take_sections_and_nothing_else(self) -> None:
        self.write("genrec/data/fetching.py", '"""Fetch."""\nfrom genrec.params.model import Model')
        assert wrong_imports(Project(self.root)) == []
        self.write("genrec/data/fetching.py", '"""Fetch."""\nimport genrec.params.reading')
        assert wrong_imports(Project(self.root)) == ["genrec/data/fetching.py must not import genrec.params.reading"]

    def test_a_file_without_a_place_is_reported(self) -> None:
        self.write("genrec/shop/model.py", '"""Serve."""')
        self.write("genrec/data/utils.py", '"""Things."""')
        assert misplaced(Project(self.root)) == [
            "genrec/shop/model.py: give it a place in tests/architecture.py",
            "genrec/data/utils.py: name it for what it holds",
        ]

    @pytest.mark.parametrize(
        "line",
        [
            "print()",
            "for _ in (): ...",
            "with open('x'): ...",
            "try: ...\nexcept: ...",
            "if True: x = 1",
            "del x",
            "x += 1",
        ],
    )
    def test_a_statement_with_an_effect_is_reported(self, line: str) -> None:
        (problem,) = effects("a.py", ast.parse(f'"""File."""\n{line}'))
        assert problem == f"a.py:2 runs at import: {ast.unparse(ast.parse(line)).splitlines()[0]}"

    def test_definitions_have_no_effect(self) -> None:
        lines = ['"""File."""', "import a", "X = a.b()", "X: int = 1", '"""X."""', "def f(): a()", "class C: pass"]
        assert effects("a.py", ast.parse("\n".join(lines))) == []


def rows_of_edits() -> list[tuple[str, list[str]]]:
    """The table of docs/architecture.md: what is edited, and the stages that run."""
    page = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = page.split("| edit | stages that run |\n|---|---|\n")[1].strip().splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [(edit, [] if stages == "none" else stages.split(", ")) for edit, stages in cells]


class TestTheTableOfEdits:
    @pytest.mark.parametrize(
        ("edit", "stages"), rows_of_edits(), ids=lambda cell: cell if isinstance(cell, str) else ""
    )
    def test_an_edit_reruns_what_the_table_says(self, project: Project, edit: str, stages: list[str]) -> None:
        reruns = [name for name in project.stages if name != "track" and depends_on(project, name, edit)]
        assert reruns == stages

    def test_it_has_a_row_for_each_edit_that_people_asked_about(self) -> None:
        assert len(rows_of_edits()) >= 9


def depends_on(project: Project, stage: str, edit: str) -> bool:
    """Whether dvc.yaml makes a stage run again after an edit."""
    file, _, key = edit.replace("`", "").partition(": a new key in ")
    if not key:
        return any(PurePosixPath(file).is_relative_to(dep) for dep in paths(project.stages[stage], "deps"))
    # DVC compares a section as a whole, and a dotted key by itself
    return key in project.stages[stage].get("params", [])


def test_one_file_holds_all_that_reaches_into_lightning() -> None:
    inside = ("fit_loop.on_", "fit_loop.epoch_loop", "_results", "_filename_suffix", "_logger_connector")
    found = {
        file
        for file, tree in Project(PROJECT).code.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and any(word in f".{ast.unparse(node)}" for word in inside)
        if not ast.unparse(node).startswith(("self._", "args."))
    }
    assert found == {"genrec/training/lightning_internals.py"}
