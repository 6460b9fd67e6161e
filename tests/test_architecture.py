"""The pipeline reruns exactly what has changed, and every room keeps its place.

A stage's `deps`, outputs and params in dvc.yaml are compared with what its file imports, names and reads. When a list
is wrong, the message holds the right one, ready to paste.
"""

import ast
import textwrap
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from genrec import params
from genrec.params import read_yaml, section_name

PROJECT = Path(__file__).parents[1]
SECTIONS = list(get_type_hints(params.Params))

# They watch a stage and can not change its outputs, so no stage but `track` depends on them.
# Nor can the exception and the entry of a command: they word what is said of a stage that makes no output.
OBSERVERS = {
    "genrec/pipeline/command.py",
    "genrec/errors.py",
    "genrec/pipeline/execution.py",
    "genrec/pipeline/state.py",
    "genrec/pipeline/run_store.py",
    "genrec/pipeline/tracking.py",
}

# A room may import those behind it.
ROOMS = ("stages", "trainers", "evaluation", "data", "models", "modules")
# Single files: these are everyone's, those belong to the stages and to each other.
LEAVES_OF_ALL = {"errors", "files", "code_table"}
LEAVES_OF_STAGES = {
    "params",
    "command",
    "comparison",
    "execution",
    "pipeline_state",
    "run_store",
    "tracking",
    "scratch",
}
# The sections that describe a data set are handed to its reader as they are.
TAKES_SECTIONS = {"genrec/data/fetching.py"}

HOMES = {
    "mlflow": "genrec/pipeline/tracking.py",
    "yaml": "genrec/params.py",
    "ruamel": "genrec/params.py",
    "dvc": "no file",
}
NAMELESS = {"utils.py", "common.py", "helpers.py"}


class Project:
    """The code and the pipeline of a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def stages(self) -> dict[str, dict[str, Any]]:
        stages: dict[str, dict[str, Any]] = read_yaml(self.root / "dvc.yaml")["stages"]
        return stages

    @cached_property
    def code(self) -> dict[str, ast.Module]:
        """Path -> parsed file."""
        files = sorted(file for room in ("genrec", "stages") for file in (self.root / room).rglob("*.py"))
        return {
            file.relative_to(self.root).as_posix(): ast.parse(file.read_text(encoding="utf-8"), str(file))
            for file in files
        }

    def imported_files(self, file: str) -> set[str]:
        """The project's files that a file imports when it runs, with the __init__.py of each package on the way."""
        prefixes = {
            ".".join(parts[:end])
            for name in imported_names(self.code[file], file)
            for parts in [name.split(".")]
            for end in range(1, len(parts) + 1)
        }
        return {found for prefix in prefixes for found in [self.file_of(prefix)] if found is not None}

    def file_of(self, module: str) -> str | None:
        """The file of a module of the project, None for another module or a name within one."""
        path = module.replace(".", "/")
        return next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in self.code), None)

    def imported_in_all(self, file: str, without: Iterable[str] = ()) -> set[str]:
        """The file and all that it imports, directly or not; nothing is reached through the files left out."""
        found: set[str] = set()
        waiting = [file]
        while waiting:
            current = waiting.pop()
            if current not in found and current not in without:
                found.add(current)
                waiting.extend(self.imported_files(current))
        return {path for path in found if not self.is_bare_package(path)}

    def is_bare_package(self, file: str) -> bool:
        """Whether it is an __init__.py that can not change an output: a docstring, or with it a facade."""
        return file.endswith("__init__.py") and all(
            is_text(line) or is_of_facade(line) for line in self.code[file].body
        )


def imported_names(tree: ast.AST, file: str, with_types: bool = False) -> Iterator[str]:
    """The dotted names of all imports, also within functions; for `from a import b` both a and a.b.

    Args:
        with_types: count what stands under `if TYPE_CHECKING` too.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "/".join(file.split("/")[: -node.level]).replace("/", ".") if node.level else ""
            module = ".".join(part for part in (package, node.module) if part)
            yield module
            yield from (f"{module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.If) and is_type_checking(node) and not with_types:
            for statement in node.orelse:
                yield from imported_names(ast.Module([statement], []), file)
        else:
            yield from imported_names(node, file, with_types)


def is_type_checking(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def is_of_facade(statement: ast.stmt) -> bool:
    """Whether it is of those that hand out names to users on demand; the project's own code asks for none."""
    if isinstance(statement, ast.FunctionDef):
        return statement.name in ("__getattr__", "__dir__")
    if isinstance(statement, ast.ImportFrom):
        return statement.module in ("importlib", "typing")
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) in ("_HOMES", "__all__")


def paths(stage: dict[str, Any], *keys: str) -> list[str]:
    """The paths of a stage's lists, each given as text or as the one key of its options."""
    entries = [entry for key in keys for entry in stage.get(key, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def outputs(stage: dict[str, Any]) -> list[str]:
    return paths(stage, "outs", "metrics", "plots")


def wrong_lists(stage: str, key: str, declared: list[str], expected: list[str], reason: str) -> list[str]:
    """One problem with the list to paste, if the two differ in more than their order."""
    if sorted(declared) == sorted(expected):
        return []
    problem = f"stage {stage}: {key} must be {reason}"
    for words, paths_of_it in (
        ("not declared", sorted(set(expected) - set(declared))),
        ("superfluous", sorted(set(declared) - set(expected))),
        ("declared twice", sorted({path for path in declared if declared.count(path) > 1})),
    ):
        if paths_of_it:
            problem += f"\n  {words}: {', '.join(paths_of_it)}"
    text = f"    {key}: [{', '.join(expected)}]"
    to_paste = textwrap.fill(text, 120, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False)
    return [f"{problem}\n{to_paste}"]


def wrong_deps(project: Project, name: str) -> list[str]:
    """The .py files among the deps are what the stage's module imports."""
    stage, file = project.stages[name], f"stages/{name}.py"
    imported = project.imported_in_all(file, without=() if name == "track" else OBSERVERS)
    declared = paths(stage, "deps")
    data = [dep for dep in declared if not dep.endswith(".py")]
    expected = [*data, file, *sorted(imported - {file})]
    return wrong_lists(name, "deps", declared, expected, f"its data and the files that {file} imports")


def wrong_paths(project: Project, name: str) -> list[str]:
    """What a stage reads and writes are the paths that its file names, each in a constant of its own."""
    stage = project.stages[name]
    data = [dep for dep in paths(stage, "deps") if not dep.endswith(".py")]
    problems = [f"stage {name}: {path} is both read and written" for path in sorted({*data} & {*outputs(stage)})]
    named = constants(project.code[f"stages/{name}.py"])
    problems += [f"stage {name}: {path} is not in dvc.yaml" for path in sorted(named - {*data, *outputs(stage)})]
    problems += [
        f"stage {name}: {path} is no constant of stages/{name}.py" for path in sorted({*data, *outputs(stage)} - named)
    ]
    return problems


def constants(tree: ast.Module) -> set[str]:
    """The paths of module-level constants NAME = Path("literal")."""
    calls = [statement.value for statement in tree.body if isinstance(statement, ast.Assign)]
    return {
        argument.value
        for call in calls
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Path"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def wrong_params(project: Project, name: str) -> list[str]:
    """The sections that a stage declares are those that it reads; `runtime` can not change a result."""
    keys = sections_read(project.code[f"stages/{name}.py"])
    # of its own section all counts
    keys = {key.partition(".")[0] if key.startswith((f"{name}.", "runtime.")) else key for key in keys} - {"runtime"}
    read = sorted(keys, key=lambda key: SECTIONS.index(key.partition(".")[0]))
    return wrong_lists(name, "params", list(project.stages[name].get("params", [])), read, "the sections that it reads")


def sections_read(tree: ast.Module) -> set[str]:
    """The sections of params.yaml that a file reads by `read_section(Class)` and `read_seed()`.

    Of `read_section(Class).key` only that key counts: a change elsewhere in the section can not change the outputs.
    """
    sections = set()
    narrowed = {id(node.value): f".{node.attr}" for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            function = ast.unparse(call.func).rpartition(".")[2]
            assert function != "read_params", "a stage reads sections, not the whole file"
            if function == "read_seed":
                sections.add("seed")
            elif function == "read_section":
                section = section_name(getattr(params, ast.unparse(call.args[0]).rpartition(".")[2]))
                sections.add(section + narrowed.get(id(call), ""))
    return sections


def wrong_commands(project: Project) -> list[str]:
    """Each stage runs the file of its name, and each file of stages/ is a stage."""
    names = {Path(file).stem for file in project.code if file.startswith("stages/")} - {"__init__"}
    problems = [f"stages/{name}.py is no stage of dvc.yaml" for name in sorted(names - project.stages.keys())]
    problems += [f"stage {name} has no file stages/{name}.py" for name in project.stages if name not in names]
    problems += [
        f"stage {name}: cmd must be `python -m stages.{name}`, got `{stage.get('cmd')}`"
        for name, stage in project.stages.items()
        if stage.get("cmd") != f"python -m stages.{name}"
    ]
    return problems


def producers(project: Project, name: str) -> set[str]:
    """The stages whose outputs, or parts of them, a stage reads."""
    return {
        producer
        for producer, stage in project.stages.items()
        for output in outputs(stage)
        for dep in paths(project.stages[name], "deps")
        if Path(dep).is_relative_to(output)
    }


def wrong_order(project: Project) -> list[str]:
    """dvc.yaml is read from above, as data flow."""
    names = list(project.stages)
    return [
        f"stage {name} stands above {producer}, which writes what it reads"
        for name in names
        for producer in sorted(producers(project, name))
        if names.index(producer) >= names.index(name)
    ]


def not_before(project: Project, last: str) -> list[str]:
    """The stages whose outputs the last stage does not wait for."""
    found, waiting = set(), [last]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(producers(project, current))
    return [f"stage {last} does not wait for {name}" for name in project.stages if name not in found]


def room_of(file: str) -> str:
    """The room or the leaf that a file belongs to.

    Example:
        >>> room_of("genrec/storage/output.py"), room_of("genrec/errors.py"), room_of("stages/track.py")
        ('data', 'errors', 'stages')
    """
    first, *others = file.removesuffix(".py").split("/")
    return first if first == "stages" else others[0]


def may_import(importer: str, imported: str) -> bool:
    """Whether one room or leaf may import another."""
    if importer in LEAVES_OF_ALL or imported in LEAVES_OF_ALL:
        return imported in LEAVES_OF_ALL
    if importer in LEAVES_OF_STAGES or imported in LEAVES_OF_STAGES:
        return imported in LEAVES_OF_STAGES and importer in LEAVES_OF_STAGES | {"stages"}
    if imported == "stages" or importer not in ROOMS or imported not in ROOMS:
        return False
    return ROOMS.index(importer) <= ROOMS.index(imported)


def wrong_imports(project: Project) -> list[str]:
    """Imports point downwards, from module to module, and an outside tool with a home is imported only there."""
    problems = []
    for file, tree in project.code.items():
        for name in sorted(set(imported_names(tree, file, with_types=True))):
            tool, imported = name.partition(".")[0], project.file_of(name)
            if HOMES.get(tool, file) != file:
                problems.append(f"{file} imports {name}, whose home is {HOMES[tool]}")
            if imported is None:
                problems += facade_imports(project, file, name)
            elif imported != "genrec/__init__.py":
                is_section = file in TAKES_SECTIONS and imported == "genrec/params.py"
                if not (is_section or may_import(room_of(file), room_of(imported))):
                    problems.append(f"{file} must not import {name}")
            if (
                file in TAKES_SECTIONS
                and name.startswith("genrec.params.")
                and not name[len("genrec.params.")].isupper()
            ):
                problems.append(f"{file} may import sections of genrec.params, not {name}")
    return problems


def facade_imports(project: Project, file: str, name: str) -> list[str]:
    """A name taken from a package: the module that owns it would be missing in the deps."""
    package = project.file_of(name.rpartition(".")[0])
    if package is None or not package.endswith("__init__.py") or package == file:
        return []
    return [f"{file} imports {name} from a package; import the module that owns it"]


def misplaced(project: Project) -> list[str]:
    """Files without a place in the rooms, and names that say nothing."""
    places = {*ROOMS, *LEAVES_OF_ALL, *LEAVES_OF_STAGES, "__init__"}
    problems = [
        f"{file}: give it a place in {Path(__file__).name}" for file in project.code if room_of(file) not in places
    ]
    return problems + [f"{file}: name it for what it holds" for file in project.code if Path(file).name in NAMELESS]


def effects(file: str, tree: ast.Module) -> list[str]:
    """Statements that do something when the file is imported."""
    return [
        f"{file}:{statement.lineno} runs at import: {ast.unparse(statement).splitlines()[0]}"
        for statement in tree.body
        if not is_without_effect(statement)
    ]


def is_without_effect(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.If):
        return is_type_checking(statement) or ast.unparse(statement.test) == "__name__ == '__main__'"
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return is_text(statement) or isinstance(
        statement, (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, *definitions)
    )


STAGES = sorted(file.stem for file in (PROJECT / "stages").glob("*.py") if file.stem != "__init__")


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
        read = {"track"}.union(*(sections_read(project.code[f"stages/{stage}.py"]) for stage in STAGES))
        assert set(SECTIONS) == {key.partition(".")[0] for key in read}

    def test_a_stage_has_the_name_of_its_file(self, project: Project) -> None:
        report(wrong_commands(project))

    def test_stages_stand_in_the_order_in_which_data_flow(self, project: Project) -> None:
        report(wrong_order(project))

    def test_tracking_comes_after_everything_and_depends_on_reports_alone(self, project: Project) -> None:
        report(not_before(project, "track"))
        data = [dep for dep in paths(project.stages["track"], "deps") if not dep.endswith(".py")]
        written = {output for stage in project.stages.values() for output in outputs(stage)}
        assert [dep for dep in data if dep not in written or not dep.startswith("reports/")] == []


class TestRooms:
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
    "genrec/params.py": '"""Leaf."""\nimport yaml\nfrom genrec.errors import UserError',
    "genrec/pipeline/execution.py": '"""Observer."""\nimport json',
    "genrec/pipeline/command.py": '"""Leaf."""\nfrom genrec.pipeline.execution import record_executed',
    "genrec/pipeline/tracking.py": '"""Observer."""\nimport genrec.codes.code_table\ndef publish():\n    import mlflow',
    "genrec/codes/code_table.py": '"""Leaf."""\nfrom genrec.errors import UserError',
    "genrec/modules/__init__.py": '"""A facade."""\nfrom importlib import import_module\n_HOMES = {"rank": "ranks"}\n'
    "__all__ = list(_HOMES)\ndef __getattr__(name): import_module(name)",
    "genrec/retrieval/ranks.py": '"""A module."""\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy',
    "genrec/models/__init__.py": '"""A room."""',
    "genrec/models/tiger.py": '"""A model."""\nfrom genrec.modules import ranks\nif TYPE_CHECKING:\n'
    "    from genrec.models import spare",
    "genrec/models/spare.py": '"""A model that no stage uses."""',
    "stages/__init__.py": '"""Stages."""',
    "stages/train_tiger.py": """
'''Train.'''
from pathlib import Path
from genrec.pipeline.command import run_stage
from genrec.params import Model, Runtime, read_section, read_seed
from genrec.pipeline.tracking import publish
HISTORIES = Path("data/prepared/histories.npz")
MODEL = Path("data/tiger.ckpt")
CURVES = Path("reports/history.csv")
def main():
    from genrec.models.tiger import Tiger
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
    - genrec/models/tiger.py
    - genrec/retrieval/ranks.py
    - genrec/params.py
    params: [seed, model]
    outs:
    - data/tiger.ckpt
    plots:
    - reports/history.csv: {cache: false, x: epoch}
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
        assert wrong_commands(project) + wrong_order(project) + wrong_imports(project) + misplaced(project) == []
        assert [problem for file, tree in project.code.items() for problem in effects(file, tree)] == []

    def test_an_undeclared_dep_is_reported_with_the_list_to_paste(self) -> None:
        project = self.change("dvc.yaml", "    - genrec/retrieval/ranks.py\n", "")
        (problem,) = wrong_deps(project, "train_tiger")
        assert problem == (
            "stage train_tiger: deps must be its data and the files that stages/train_tiger.py imports\n"
            "  not declared: genrec/retrieval/ranks.py\n"
            "    deps: [data/prepared/histories.npz, stages/train_tiger.py, genrec/models/tiger.py, "
            "genrec/retrieval/ranks.py,\n"
            "      genrec/params.py]"
        )

    @pytest.mark.parametrize(
        "file", ["genrec/models/spare.py", "genrec/pipeline/execution.py", "genrec/codes/code_table.py"]
    )
    def test_a_superfluous_dep_is_reported(self, file: str) -> None:
        project = self.change("dvc.yaml", "    - genrec/params.py\n", f"    - genrec/params.py\n    - {file}\n")
        (problem,) = wrong_deps(project, "train_tiger")
        assert f"\n  superfluous: {file}\n" in problem

    def test_a_dep_that_stands_twice_is_reported(self) -> None:
        project = self.change("dvc.yaml", "    - genrec/params.py\n", "    - genrec/params.py\n" * 2)
        assert "\n  declared twice: genrec/params.py\n" in wrong_deps(project, "train_tiger")[0]

    @pytest.mark.parametrize("spelling", ["import genrec.models.spare", "from . import spare", "from .spare import x"])
    def test_an_import_counts_in_each_of_its_spellings(self, spelling: str) -> None:
        project = self.change("genrec/models/tiger.py", '"""A model."""', f'"""A model."""\n{spelling}')
        assert "\n  not declared: genrec/models/spare.py\n" in wrong_deps(project, "train_tiger")[0]

    def test_an_init_file_with_code_counts(self) -> None:
        self.write("genrec/models/__init__.py", '"""A room."""\nimport genrec.models.spare')
        (problem,) = wrong_deps(Project(self.root), "train_tiger")
        assert "\n  not declared: genrec/models/__init__.py, genrec/models/spare.py\n" in problem

    @pytest.mark.parametrize("line", ["from math import pi", "LIMIT = 3", "def function(): ...", "import_module('x')"])
    def test_a_facade_with_code_of_its_own_counts(self, line: str) -> None:
        project = self.change("genrec/modules/__init__.py", "__all__ =", f"{line}\n__all__ =")
        (problem,) = wrong_deps(project, "train_tiger")
        assert "\n  not declared: genrec/modules/__init__.py\n" in problem

    def test_tracking_depends_on_the_observers_too(self) -> None:
        self.write("stages/track.py", '"""Track."""\nfrom genrec.pipeline.tracking import publish')
        project = self.change("dvc.yaml", "stages:", "stages:\n  track:\n    cmd: python -m stages.track")
        (problem,) = wrong_deps(project, "track")
        assert "[stages/track.py, genrec/codes/code_table.py, genrec/errors.py, genrec/pipeline/tracking.py]" in problem
        assert not_before(project, "track") == [
            "stage track does not wait for prepare_data",
            "stage track does not wait for train_tiger",
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
        project = self.change("stages/train_tiger.py", "data/tiger.ckpt", "data/tiger.pt")
        assert wrong_paths(project, "train_tiger") == [
            "stage train_tiger: data/tiger.pt is not in dvc.yaml",
            "stage train_tiger: data/tiger.ckpt is no constant of stages/train_tiger.py",
        ]

    def test_an_output_that_is_read_is_reported(self) -> None:
        project = self.change(
            "dvc.yaml", "    - stages/train_tiger.py\n", "    - stages/train_tiger.py\n    - data/tiger.ckpt\n"
        )
        assert wrong_paths(project, "train_tiger") == ["stage train_tiger: data/tiger.ckpt is both read and written"]

    def test_a_stage_above_its_producer_is_reported(self) -> None:
        stages = FAKE_PIPELINE.split("  prepare_data:")[1].split("  train_tiger:")
        self.write("dvc.yaml", f"stages:\n  train_tiger:{stages[1]}  prepare_data:{stages[0]}")
        assert wrong_order(Project(self.root)) == [
            "stage train_tiger stands above prepare_data, which writes what it reads"
        ]

    def test_a_stage_and_its_file_have_one_name(self) -> None:
        project = self.change("dvc.yaml", "  prepare_data:\n", "  prepare:\n")
        assert wrong_commands(project) == [
            "stages/prepare_data.py is no stage of dvc.yaml",
            "stage prepare has no file stages/prepare.py",
            "stage prepare: cmd must be `python -m stages.prepare`, got `python -m stages.prepare_data`",
        ]

    @pytest.mark.parametrize(
        ("file", "line", "problem"),
        [
            (
                "genrec/retrieval/ranks.py",
                "from genrec.models.tiger import Tiger",
                "must not import genrec.models.tiger",
            ),
            ("genrec/retrieval/ranks.py", "import genrec.models", "must not import genrec.models"),
            ("genrec/retrieval/ranks.py", "from genrec.params import Model", "must not import genrec.params"),
            ("genrec/retrieval/ranks.py", "import stages.train_tiger", "must not import stages.train_tiger"),
            ("genrec/errors.py", "import genrec.retrieval.ranks", "must not import genrec.retrieval.ranks"),
            ("genrec/pipeline/command.py", "import genrec.retrieval.ranks", "must not import genrec.retrieval.ranks"),
            ("stages/train_tiger.py", "import stages.prepare_data", "must not import stages.prepare_data"),
            ("stages/train_tiger.py", "import yaml", "imports yaml, whose home is genrec/params.py"),
            (
                "genrec/models/tiger.py",
                "import mlflow.pytorch",
                "imports mlflow.pytorch, whose home is genrec/pipeline/tracking.py",
            ),
            ("genrec/pipeline/tracking.py", "import dvc", "imports dvc, whose home is no file"),
            (
                "genrec/models/tiger.py",
                "from genrec.modules import Quantizer",
                "imports genrec.modules.Quantizer from a package; import the module that owns it",
            ),
        ],
    )
    def test_an_import_out_of_place_is_reported(self, file: str, line: str, problem: str) -> None:
        for text in (line, f"if TYPE_CHECKING:\n    {line}", f"def function():\n    {line}"):
            self.write(file, f'"""A file."""\n{text}')
            assert wrong_imports(Project(self.root)) == [f"{file} {problem}"]

    def test_the_data_reader_may_take_sections_and_nothing_else(self) -> None:
        self.write("genrec/data/fetching.py", '"""Fetch."""\nfrom genrec.params import Columns, read_params')
        assert wrong_imports(Project(self.root)) == [
            "genrec/data/fetching.py may import sections of genrec.params, not genrec.params.read_params"
        ]

    def test_a_file_without_a_place_is_reported(self) -> None:
        self.write("genrec/serving/model.py", '"""Serve."""')
        self.write("genrec/data/utils.py", '"""Things."""')
        assert misplaced(Project(self.root)) == [
            "genrec/serving/model.py: give it a place in test_architecture.py",
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
