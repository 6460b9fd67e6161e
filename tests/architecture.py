"""What the architecture's tests look at: imports, folders, dvc.yaml, the list of generators, all read as text.

A stage's `deps`, outputs and params in dvc.yaml are compared with what its file imports, names and reads. When a list
is wrong, the message holds the right one, ready to paste.
"""

import ast
import textwrap
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from genrec.params.reading import NO_SETTINGS, read_yaml, section_name, sections

PROJECT = Path(__file__).parents[1]
SECTIONS = list(read_yaml(PROJECT / "params.yaml"))

# They watch a stage, or hand it the values of params.yaml and the names of the list, which dvc.yaml repeats and these
# tests compare: they cannot change its outputs, so no stage depends on them but those of NO_OBSERVERS.
OBSERVERS = (
    "genrec/errors.py", "genrec/choices.py", "genrec/processor.py", "genrec/pipeline/", "genrec/params/",
    "genrec/generators/",
)  # fmt: skip
NO_OBSERVERS = {
    "report": ("genrec/generators/",),  # it prints their titles
    "track": OBSERVERS,
}

# Folders whose files change together: a stage that uses two of them depends on all. Every other folder stands for its
# files only where a stage uses all of them.
UNITS = {
    "genrec/codes",
    "genrec/evaluation",
    "genrec/generation",
    "genrec/layers",
    "genrec/networks/sequential",
    "genrec/ranking",
    "genrec/retrieval",
    "genrec/storage",
    "genrec/tasks",
    "genrec/training",
    # of `track`, and of the report
    "genrec/generators",
    "genrec/params",
    "genrec/pipeline",
}
# What imports all files of a folder, by listing it.
LISTS = {
    "genrec/generators/entry.py": ("genrec/generators/",),
    "genrec/params/reading.py": ("genrec/params/", "genrec/generators/"),
}
# Files that every room may import.
OF_ALL = ("errors", "choices", "processor")
MOST_CODE_DEPS = 10
MOST_LINES = 200

# A room may import those behind it.
ROOMS = (
    "stages",
    "add_items",
    "recommend",
    "trainers",
    "data",
    "modules",
    "serving",
    "report",
    "evaluation",
    "ranking",
    "towers",
    "models",
    "networks",
    "digits",
    "tasks",
    "training",
    "retrieval",
    "generation",
    "sequences",
    "codes",
    "layers",
    "storage",
)
# Beside the rooms: what the pipeline is told and what watches it. Each may import these, and all of them `errors`.
BESIDE = {
    "generators": {"params"},
    "params": {"generators", "pipeline"},
    "pipeline": {"generators", "params", "storage"},
    "search": {"params", "pipeline"},
    "cluster": {"params", "pipeline"},
}
# Rooms with commands: they print as stages do, and one of them runs stages by their settings.
STEERING = {("recommend", "pipeline"), ("add_items", "pipeline"), ("add_items", "params")}
# Who may name a section's class: its type alone, or what fetches a data set, which is handed the section as it is.
TAKES_SECTIONS = {"genrec/data/fetching.py", "genrec/training/stage.py", "genrec/evaluation/evaluator.py"}

LIGHTNING = "genrec/training/lightning.py"
HOMES = {
    "mlflow": ("genrec/pipeline/tracking.py", "genrec/pipeline/registry.py", "genrec/serving/mlflow_model.py"),
    "yaml": ("genrec/params/reading.py",),
    "ruamel": ("genrec/params/preset.py",),
    "dvc": ("no file",),
    "optuna": ("genrec/search/study.py",),
    "ray": ("genrec/cluster/ray_cluster.py",),
    "pytorch_lightning": (LIGHTNING,),
    "lightning_fabric": (LIGHTNING,),
    "lightning_utilities": (LIGHTNING,),
    "torchmetrics": (LIGHTNING,),
}
# What is measured, ranked or proposed starts without Lightning.
# What MLflow runs to hear of a model: it has an effect, and nothing of the project imports it.
RUN_BY_OTHERS = ("genrec/serving/mlflow_model.py",)
WITH_LIGHTNING = ("training", "models", "tasks", "towers", "ranking", "trainers")
NAMELESS = {"utils.py", "common.py", "helpers.py"}


class Project:
    """The code and the pipeline of a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def stages(self) -> dict[str, dict[str, Any]]:
        """As dvc.yaml lists them; for the last, which only waits, the stage of tracking/dvc.yaml for which it waits."""
        stages: dict[str, dict[str, Any]] = read_yaml(self.root / "dvc.yaml")["stages"]
        tracking = self.root / "tracking" / "dvc.yaml"
        return stages | ({"track": read_yaml(tracking)["stages"]["publish"]} if tracking.exists() else {})

    @cached_property
    def code(self) -> dict[str, ast.Module]:
        """Path -> parsed file."""
        files = sorted(file for room in ("genrec", "stages") for file in (self.root / room).rglob("*.py"))
        return {
            file.relative_to(self.root).as_posix(): ast.parse(file.read_text(encoding="utf-8"), str(file))
            for file in files
        }

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        """The arguments of each `ENTRY` of genrec/generators/, paths as text."""
        found = []
        for file, tree in self.code.items():
            for statement in tree.body:
                is_entry = isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ENTRY"
                if file.startswith("genrec/generators/") and is_entry and isinstance(statement.value, ast.Call):
                    found.append({str(word.arg): literal(word.value) for word in statement.value.keywords})
        return found

    def entries_of(self, stage: str) -> list[dict[str, Any]]:
        """The generators whose networks and files a stage takes from the list."""
        tree, own = self.code[self.file_of_stage(stage)], stage.partition("_")[2]
        called = {ast.unparse(call.func) for call in ast.walk(tree) if isinstance(call, ast.Call)}
        if "generator_named" in called:
            return [entry for entry in self.entries if entry["name"] == own]
        if "generators" in called:
            return self.entries
        return [entry for entry in self.entries if entry["code_table"]] if "proposing_generators" in called else []

    def file_of_stage(self, stage: str) -> str:
        """The file that a stage's command runs."""
        module = str(self.stages[stage].get("cmd", "")).removeprefix("python -m ").split()
        return f"{module[0].replace('.', '/')}.py" if module else f"stages/{stage}.py"

    def imported_files(self, file: str) -> set[str]:
        """The project's files that a file imports when it runs, with the __init__.py of each package on the way."""
        prefixes = {
            ".".join(parts[:end])
            for name in imported_names(self.code[file], file)
            for parts in [name.split(".")]
            for end in range(1, len(parts) + 1)
        }
        named = {found for prefix in prefixes for found in [self.file_of(prefix)] if found is not None}
        listed = {found for found in self.code if found.startswith(LISTS.get(file, ("no file",)))}
        return named | listed

    def file_of(self, module: str) -> str | None:
        """The file of a module of the project, None for another module or a name within one."""
        path = module.replace(".", "/")
        return next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in self.code), None)

    def imported_in_all(self, files: Iterable[str], without: tuple[str, ...] = ()) -> set[str]:
        """The files and all that they import, directly or not; nothing is reached through what is left out."""
        found: set[str] = set()
        waiting = list(files)
        while waiting:
            current = waiting.pop()
            if current not in found and not (without and current.startswith(without)):
                found.add(current)
                waiting.extend(self.imported_files(current))
        return {path for path in found if not self.is_bare_package(path)}

    def used_by(self, stage: str) -> set[str]:
        """All files whose code can change a stage's outputs."""
        kept = NO_OBSERVERS.get(stage, ())
        tree, roots = self.code[self.file_of_stage(stage)], [self.file_of_stage(stage)]
        if any(ast.unparse(node).endswith(".network_class()") for node in ast.walk(tree) if isinstance(node, ast.Call)):
            modules = [entry["network"].rpartition(".")[0] for entry in self.entries_of(stage)]
            roots += [file for file in map(self.file_of, modules) if file is not None]
        return self.imported_in_all(roots, tuple(prefix for prefix in OBSERVERS if prefix not in kept))

    def cover(self, used: set[str], folder: str = "genrec") -> list[str]:
        """The folders and files that stand for a set of files; see UNITS."""
        inside = {file for file in self.code if file.startswith(f"{folder}/") and not self.is_bare_package(file)}
        touched = used & inside
        if folder != "genrec" and len(touched) > 1 and (folder in UNITS or touched == inside):
            return [folder]
        children = sorted({PurePosixPath(folder, PurePosixPath(file).relative_to(folder).parts[0]) for file in touched})
        return [
            entry
            for child in map(str, children)
            for entry in ([child] if child.endswith(".py") else self.cover(used, child))
        ]

    def is_bare_package(self, file: str) -> bool:
        """Whether it is an __init__.py that cannot change an output: a docstring, or with it a facade."""
        return file.endswith("__init__.py") and all(
            is_text(line) or is_of_facade(line) for line in self.code[file].body
        )


def literal(node: ast.expr) -> Any:
    """A constant, or the text of `Path("...")`."""
    if isinstance(node, ast.Call):
        (node,) = node.args
    assert isinstance(node, ast.Constant), ast.unparse(node)
    return node.value


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


def wrong_deps(project: Project, name: str, most: int = MOST_CODE_DEPS) -> list[str]:
    """The code among the deps is what the stage's file imports, in few lines."""
    file, used = project.file_of_stage(name), project.used_by(name)
    declared = paths(project.stages[name], "deps")
    data = [dep for dep in declared if not is_code(dep)]
    code = [file, *project.cover(used - {file})]
    problems = wrong_lists(name, "deps", declared, [*data, *code], f"its data and the code that {file} imports")
    if len(code) > most:
        problems.append(f"stage {name} depends on {len(code)} files and folders of code, more than {most}")
    return problems


def is_code(dep: str) -> bool:
    return dep.endswith(".py") or dep.startswith("genrec/")


def wrong_paths(project: Project, name: str) -> list[str]:
    """What a stage reads and writes are the paths that its file names, or that its entries of the list name."""
    stage, file = project.stages[name], project.file_of_stage(name)
    data = [dep for dep in paths(stage, "deps") if not is_code(dep)]
    problems = [f"stage {name}: {path} is both read and written" for path in sorted({*data} & {*outputs(stage)})]
    named = {
        # a folder stands for the files in it
        next((folder for folder in [*data, *outputs(stage)] if Path(path).is_relative_to(folder)), path)
        for path in constants(project.code[file]) | listed_paths(project, name)
    }
    named -= {"dvc.yaml"}  # DVC refuses its own file as a dependency; what it says of a stage shows in the outputs
    problems += [f"stage {name}: {path} is not in dvc.yaml" for path in sorted(named - {*data, *outputs(stage)})]
    problems += [f"stage {name}: {path} is not named by {file}" for path in sorted({*data, *outputs(stage)} - named)]
    return problems


def listed_paths(project: Project, name: str) -> set[str]:
    """The paths of entries that a stage's file asks for."""
    tree = project.code[project.file_of_stage(name)]
    parents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "name"}
    asked = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "generator" and id(node) not in parents
    }
    found = set()
    for entry in project.entries_of(name):
        places = {
            "checkpoint": f"data/models/{entry['name']}.ckpt",
            "metrics": f"reports/evaluate_{entry['name']}/metrics.json",
            "intervals": f"reports/evaluate_{entry['name']}/intervals.json",
            "ranks_file": f"data/ranks/{entry['name']}.npz",
            "curves": f"reports/train_{entry['name']}/history.csv",
            "audit_file": f"data/audits/{entry['name']}.npz" if entry["ranks"] == "beams" else None,
            "described_by": entry["code_table"],
        }
        found |= {path for key, path in places.items() if key in asked and path is not None}
    return found


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
    """The sections that a stage declares are those that it reads; `runtime` cannot change a result."""
    keys = sections_read(project.code[project.file_of_stage(name)])
    # of its own section all counts
    keys = {key.partition(".")[0] if key.startswith((f"{name}.", "runtime.")) else key for key in keys} - {"runtime"}
    read = sorted(keys, key=lambda key: SECTIONS.index(key.partition(".")[0]))
    return wrong_lists(name, "params", list(project.stages[name].get("params", [])), read, "the sections that it reads")


def sections_read(tree: ast.Module) -> set[str]:
    """The sections of params.yaml that a file reads by `read_section(Class)` and `read_seed()`.

    Of `read_section(Class).key` only that key counts: a change elsewhere in the section cannot change the outputs.
    """
    sections = set()
    narrowed = {id(node.value): f".{node.attr}" for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            function = ast.unparse(call.func).rpartition(".")[2]
            assert function != "read_params", "a stage reads sections, not the whole file"
            if function == "read_settings":
                sections.update(key for key in SECTIONS if key not in NO_SETTINGS)
            elif function == "read_seed":
                sections.add("seed")
            elif function == "read_section":
                section = name_of_section(ast.unparse(call.args[0]).rpartition(".")[2])
                sections.add(section + narrowed.get(id(call), ""))
    return sections


def name_of_section(kind: str) -> str:
    return section_name(next(found for found in sections().values() if found.__name__ == kind))


def wrong_commands(project: Project) -> list[str]:
    """Each stage runs the file of its name, and each file of stages/ is a stage."""
    files = {file for file in project.code if file.startswith("stages/")} - {"stages/__init__.py"}
    run = {name: project.file_of_stage(name) for name in project.stages}
    problems = [f"{file} is no stage of dvc.yaml" for file in sorted(files - set(run.values()))]
    problems += [f"stage {name} has no file {file}" for name, file in run.items() if file not in files]
    for name, stage in project.stages.items():
        kind, _, generator = name.partition("_")
        allowed = {f"python -m stages.{name}"}
        if generator in {entry["name"] for entry in project.entries}:
            allowed.add(f"python -m stages.{kind} {generator}")
        if stage.get("cmd") not in allowed:
            problems.append(f"stage {name}: cmd must be `{' or '.join(sorted(allowed))}`, got `{stage.get('cmd')}`")
    return problems


def without_stages(project: Project) -> list[str]:
    """Each generator of the list is trained and evaluated."""
    return [
        f"generator {entry['name']} has no stage {kind}_{entry['name']} in dvc.yaml"
        for entry in project.entries
        for kind in ("train", "evaluate")
        if f"{kind}_{entry['name']}" not in project.stages
    ]


def impure_sections(project: Project) -> list[str]:
    """Classes of settings that hold more than the types of values: no stage depends on the files that hold them."""
    problems = []
    for file, tree in project.code.items():
        for kind in tree.body:
            marks = {ast.unparse(mark) for mark in getattr(kind, "decorator_list", [])}
            if not isinstance(kind, ast.ClassDef) or not marks & {"section", "nested"}:
                continue
            for line in kind.body:
                is_field = isinstance(line, ast.AnnAssign) and line.value is None
                is_check = isinstance(line, ast.FunctionDef) and any(
                    ast.unparse(mark).startswith("field_validator(") for mark in line.decorator_list
                )
                shared_check = isinstance(line, ast.Assign) and ast.unparse(line.value).startswith("field_validator(")
                if not (is_text(line) or is_field or is_check or shared_check):
                    problems.append(f"{file}:{line.lineno} {kind.name} must hold fields and their checks alone")
    return problems


def producers(project: Project, name: str) -> set[str]:
    """The stages whose outputs, or parts of them, a stage reads."""
    return {
        producer
        for producer, stage in project.stages.items()
        for output in outputs(stage)
        for dep in paths(project.stages[name], "deps")
        if Path(dep).is_relative_to(output) or Path(output).is_relative_to(dep)
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
        >>> room_of("genrec/data/output.py"), room_of("genrec/errors.py"), room_of("stages/track.py")
        ('data', 'errors', 'stages')
    """
    first, *others = file.removesuffix(".py").split("/")
    return first if first == "stages" else others[0]


def may_import(importer: str, imported: str) -> bool:
    """Whether one room may import another, or itself."""
    if imported in OF_ALL or importer == imported != "stages":
        return True
    if importer in BESIDE:
        return imported in BESIDE[importer]
    if imported in BESIDE:
        return (importer, imported) in STEERING or (
            importer in ("stages", "report") and (importer, imported) != ("report", "pipeline")
        )
    if imported == "stages" or importer not in ROOMS or imported not in ROOMS:
        return False
    return ROOMS.index(importer) <= ROOMS.index(imported)


def wrong_imports(project: Project) -> list[str]:
    """Imports point downwards, from module to module, and an outside tool with a home is imported only there."""
    problems = []
    for file, tree in project.code.items():
        for name in sorted(set(imported_names(tree, file, with_types=True))):
            tool, imported = name.partition(".")[0], project.file_of(name)
            if file not in HOMES.get(tool, (file,)):
                problems.append(f"{file} imports {name}, whose home is {HOMES[tool][0]}")
            if imported == LIGHTNING and room_of(file) not in WITH_LIGHTNING:
                problems.append(f"{file} imports {name}: only what trains may, such as {', '.join(WITH_LIGHTNING[:2])}")
            if imported is None:
                problems += facade_imports(project, file, name)
            elif imported not in ("genrec/__init__.py", f"genrec/{room_of(imported)}/__init__.py"):
                is_section = file in TAKES_SECTIONS and is_of_section(imported)
                if not (is_section or may_import(room_of(file), room_of(imported))):
                    problems.append(f"{file} must not import {name}")
    return problems


def is_of_section(file: str) -> bool:
    return file.startswith("genrec/params/") and Path(file).stem not in ("reading", "preset", "types", "__main__")


def facade_imports(project: Project, file: str, name: str) -> list[str]:
    """A name taken from a package: the module that owns it would be missing in the deps."""
    package = project.file_of(name.rpartition(".")[0])
    if package is None or not package.endswith("__init__.py") or package == file:
        return []
    return [f"{file} imports {name} from a package; import the module that owns it"]


def misplaced(project: Project) -> list[str]:
    """Files without a place in the rooms, and names that say nothing."""
    places = {*ROOMS, *BESIDE, *OF_ALL, "__init__"}
    problems = [
        f"{file}: give it a place in tests/architecture.py" for file in project.code if room_of(file) not in places
    ]
    return problems + [f"{file}: name it for what it holds" for file in project.code if Path(file).name in NAMELESS]


def effects(file: str, tree: ast.Module) -> list[str]:
    """Statements that do something when the file is imported; the one that imports Lightning must."""
    return [
        f"{file}:{statement.lineno} runs at import: {ast.unparse(statement).splitlines()[0]}"
        for statement in tree.body
        if file not in (*RUN_BY_OTHERS, LIGHTNING) and not is_without_effect(statement)
    ]


def is_without_effect(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.If):
        # only in a process that was started for it: `sys.argv[0]` is "-m" while Python looks for what to run
        starts = ("__name__ == '__main__'", "sys.argv[0] == '-m'")
        return is_type_checking(statement) or ast.unparse(statement.test) in starts
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return is_text(statement) or isinstance(
        statement, (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, *definitions)
    )
