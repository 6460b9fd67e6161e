"""params.yaml as typed, frozen sections: the one reader of that file, and the one place that imports yaml.

A stage reads exactly the sections that dvc.yaml declares for it:

    model = read_section(Model)
    config = read_section(TrainTiger)

The whole file is checked at each read, so that a typo anywhere stops the pipeline before any work. A stage depends on
the values that it reads, which DVC compares, not on this file: it hands them over or refuses them.
"""

import difflib
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

import genrec.generators
import genrec.params
from genrec.errors import UserError
from genrec.params.track import Track
from genrec.params.types import Section, Seed, nested

PARAMS_FILE = Path("params.yaml")
NO_SETTINGS = ("track", "runtime")  # sections that can change no result

# The user and the password before a host, or what signs a request: params.yaml is committed, dvc.lock too, and MLflow
# shows both.
SECRET = re.compile(
    r"://[^/?#\s]*@|[?&][^=&]*(?:token|sig(?:nature)?|secret|passw(?:or)?d|credential|(?:api|access|auth)[-_]?key)[^=&]*=",
    re.IGNORECASE,
)


class Params(Protocol):
    """The whole of params.yaml: a field for each section, in the file's own order."""

    @property
    def seed(self) -> int: ...

    @property
    def track(self) -> Track: ...


@cache
def sections() -> Mapping[str, type]:
    """Key to class of every section: all classes that are marked as one in genrec/params/ and genrec/generators/."""
    modules = [
        import_module(f"{package.__name__}.{found.name}")
        for package in (genrec.params, genrec.generators)
        for found in pkgutil.iter_modules(package.__path__)
        if found.name != "__main__"
    ]
    kinds = [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and "__is_section__" in vars(kind)
    ]
    return {section_name(kind): kind for kind in kinds}


def section_name(section: type) -> str:
    """The key of params.yaml that holds a section.

    Example:
        >>> section_name(Track)
        'track'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", section.__name__).lower()


@cache
def _whole_file(order: tuple[str, ...] = ()) -> type:
    """The class of the whole file, its fields in the given order."""
    kinds: dict[str, Any] = {"seed": Seed, **sections()}
    places = {key: place for place, key in enumerate(order)}
    annotations = {key: kinds[key] for key in sorted(kinds, key=lambda key: places.get(key, len(order)))}
    return nested(type("Params", (), {"__annotations__": annotations, "__module__": __name__}))


def read_seed(path: Path = PARAMS_FILE) -> int:
    """The seed from which every random choice of the pipeline follows."""
    return read_params(path).seed


def read_section(section: type[Section], path: Path = PARAMS_FILE) -> Section:
    """Read one section of params.yaml, named by its class; the whole file is checked.

    Raises:
        UserError: a key is unknown, missing or out of range.
    """
    value: Section = getattr(read_params(path), section_name(section))
    return value


def read_settings(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """All sections that can change a result, as the file holds them and in its order, for what shows them to people."""
    read_params(path)
    content: dict[str, Any] = read_yaml(path)
    return {key: value for key, value in content.items() if key not in NO_SETTINGS}


MOST_MISTAKES = 12  # of a file that are told at once


@cache
def read_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole file."""
    if not path.is_file():
        raise UserError(f"{path} not found in {Path.cwd()}; run from the project's root folder")
    return check_params(read_yaml(path), str(path))


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        UserError: it is not YAML.
    """
    with path.open("rb") as stream:
        try:
            return yaml.load(stream, _StrictLoader)  # nosec B506
        except yaml.YAMLError as mistake:
            raise UserError(f"{path} is not valid YAML: {' '.join(str(mistake).split())}; mend it") from mistake
        except (RecursionError, ValueError) as mistake:  # thousands of brackets; a date in month 13
            raise UserError(f"{path} holds a value that cannot be read ({mistake}); mend it") from None


# a safe loader; the one in C, where there is one, is ten times as fast
class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that stands twice in a section; YAML's own rule, and PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = next((key for key in keys if keys.count(key) > 1), None)
        if repeated is not None:
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def check_params(content: object, place: str) -> Params:
    """Turn the parsed file into `Params`; 1e-05, which YAML 1.1 reads as text, becomes a number."""
    if not isinstance(content, dict):
        raise UserError(f"{place} must hold sections such as 'model:', got {shown(content)}; write them")
    try:
        params: Params = TypeAdapter(_whole_file(tuple(map(str, content)))).validate_python(content)
    except ValidationError as mistake:
        # a misspelt key first: what is missing follows from it
        errors = sorted(mistake.errors(), key=lambda error: error["type"] == "missing")
        told = [_explain(error) for error in errors]
        more = [f"and {len(told) - MOST_MISTAKES} more"] if len(told) > MOST_MISTAKES else []
        raise UserError(f"{place}: " + "; ".join([*told[:MOST_MISTAKES], *more])) from None
    for name, value in flatten(params).items():
        if SECRET.search(str(value)):
            raise UserError(
                f"{place}: {name} holds a password or a token, which dvc.lock and MLflow would show to others;"
                " download the file yourself and give its local path"
            )
    return params


def flatten(params: Params) -> dict[str, Any]:
    """All values under their dotted names, as MLflow and `dvc exp run -S` spell them."""
    flat: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if is_dataclass(value):
            for field in fields(value):
                visit(f"{prefix}.{field.name}" if prefix else field.name, getattr(value, field.name))
        else:
            flat[prefix] = list(value) if isinstance(value, tuple) else value

    visit("", params)
    return flat


def _explain(error: Any) -> str:
    """One of pydantic's errors as `key: rule, got value`, with the nearest known key for a typo."""
    *parents, key = error["loc"]
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "unexpected_keyword_argument":
        known = _known_keys(parents)
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0)
        return f"unknown key '{name}'; did you mean '{'.'.join([*map(str, parents), *near])}'?"
    if error["type"] == "missing":
        return f"key '{name}' is missing"
    rule = error["msg"].removeprefix("Value error, ")
    way_out = ""
    if error["type"] == "string_type" and isinstance(error["input"], int | float):
        way_out = "; put it in quotes"
    elif error["input"] is None:  # what a key without a value is in YAML
        way_out = {"string_type": "; write '' for none", "tuple_type": "; write [] for none"}.get(error["type"], "")
    return f"{name}: {rule[:1].lower()}{rule[1:]}, got {shown(error['input'])}{way_out}"


def shown(value: object, longest: int = 100) -> str:
    """A value within a line, however long or deep it is."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} within itself or thousands of others"
    return text if len(text) <= longest else f"{text[:longest]}..."


def _known_keys(parents: list[Any]) -> list[str]:
    section: Any = _whole_file()
    for parent in parents:
        section = get_type_hints(section)[parent]
    return [field.name for field in fields(section)]
