"""What a search varies, and what it wants: a small yaml file, checked against params.yaml before anything runs.

objective: train_sasrec/best_val_ndcg_at_10
params:
  train_sasrec.embedding_dim: [64, 128]
  train_sasrec.dropout: {low: 0.3, high: 0.7, step: 0.1}
  train_sasrec.learning_rate: {low: 0.0003, high: 0.003, log: true}
"""

import copy
import difflib
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from genrec.errors import UserError
from genrec.params.reading import check_params, flatten, read_yaml

Value = bool | int | float | str
KEYS = ("objective", "direction", "params")
DIRECTIONS = ("maximize", "minimize")
OF_VALIDATION = re.compile(r"(^|[/_])val(idation)?([/_]|$)")


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Value, ...]

    @property
    def extremes(self) -> tuple[Value, ...]:
        return self.values

    def holds(self, value: object) -> bool:
        return value in self.values


@dataclass(frozen=True)
class Range:
    """A number between two, both within.

    Attributes:
        step: None for any number.
        log: whether each factor is as likely, not each difference.
    """

    low: float
    high: float
    step: float | None
    log: bool

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def extremes(self) -> tuple[Value, ...]:
        return (self.low, self.high)

    def holds(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-6


@dataclass(frozen=True)
class Space:
    """A search.

    Attributes:
        name: of its file; experiments, runs and the file of its trials are named after it.
        stage, figure: the objective: which number of reports/<stage>/metrics.json, nested names joined by slashes.
    """

    name: str
    stage: str
    figure: str
    direction: Literal["maximize", "minimize"]
    params: Mapping[str, Choice | Range]

    @property
    def objective(self) -> str:
        return f"{self.stage}/{self.figure}"

    @property
    def digest(self) -> str:
        """Of all that trials must have in common to be compared."""
        content = [self.objective, self.direction, {name: repr(each) for name, each in sorted(self.params.items())}]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def held_of(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """Of flat parameters those that the space varies; none if one of them lies outside."""
        held = {name: params[name] for name in self.params}
        return held if all(self.params[name].holds(value) for name, value in held.items()) else {}


def read_space(file: Path, content: Mapping[str, Any], stages: Collection[str]) -> Space:
    """Read a search, and check its names and the ends of its ranges.

    Args:
        content: params.yaml, parsed.
        stages: those of dvc.yaml.

    Raises:
        UserError: the file is missing or says something else; a parameter is unknown, or a value is not allowed.
    """
    if not file.is_file():
        raise UserError(
            f"no search {str(file)!r}; give a yaml file with {', '.join(KEYS)}, such as searches/sasrec.yaml"
        )
    found = read_yaml(file)
    if not isinstance(found, dict) or set(found) - set(KEYS) or not {"objective", "params"} <= set(found):
        keys = ", ".join(map(str, found)) if isinstance(found, dict) else repr(found)
        raise UserError(f"{file} must hold objective, params and, if it is not maximize, direction; got {keys}")
    direction = found.get("direction", DIRECTIONS[0])
    if direction not in DIRECTIONS:
        raise UserError(f"{file}: direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
    stage, _, figure = str(found["objective"]).partition("/")
    if stage not in stages or not OF_VALIDATION.search(figure):
        raise UserError(
            f"{file}: objective must be a figure of validation as <stage>/<figure of its metrics.json>, such as "
            f"train_sasrec/best_val_ndcg_at_10, got {found['objective']!r}; what is chosen on the test measures nothing"
        )
    if not isinstance(found["params"], dict) or not found["params"]:
        raise UserError(f"{file}: params must name what varies, got {found['params']!r}")
    params = {str(name): _dimension(file, str(name), each) for name, each in found["params"].items()}
    space = Space(file.stem, stage, figure, direction, params)
    _check(file, space, content)
    return space


def _dimension(file: Path, name: str, given: Any) -> Choice | Range:
    if isinstance(given, list) and len(given) > 1 and all(isinstance(each, Value) for each in given):
        return Choice(tuple(given))
    is_range = isinstance(given, dict) and {"low", "high"} <= set(given) <= {"low", "high", "step", "log"}
    if not is_range:
        raise UserError(
            f"{file}: {name} must be a list of two values and more or {{low, high, and if wanted step or log}}, got "
            f"{given!r}"
        )
    numbers = [given[key] for key in ("low", "high", "step") if given.get(key) is not None]
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in numbers):
        raise UserError(
            f"{file}: {name}: low, high and step must be numbers (1.0e-4, not 1e-4, in yaml), got {given!r}"
        )
    low, high, step, log = given["low"], given["high"], given.get("step"), bool(given.get("log", False))
    if low >= high or (step is not None and (step <= 0 or log)) or (log and low <= 0):
        raise UserError(f"{file}: {name}: low must be below high, step above 0 and without log, low of log above 0")
    return Range(low, high, step, log)


def _check(file: Path, space: Space, content: Mapping[str, Any]) -> None:
    known = flatten(check_params(dict(content), "params.yaml"))
    for name, dimension in space.params.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise UserError(f"{file}: no parameter {name!r} in params.yaml; did you mean {near[0]!r}?")
        for value in dimension.extremes:
            check_params(changed(content, {name: value}), str(file))


def changed(content: Mapping[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    """params.yaml, parsed, with other values under dotted names."""
    copied = copy.deepcopy(dict(content))
    for name, value in values.items():
        *parents, key = name.split(".")
        section = copied
        for parent in parents:
            section = section[parent]
        section[key] = value
    return copied


def overrides(values: Mapping[str, Value]) -> list[str]:
    """Values as `dvc exp run` takes them: `-S name=value`.

    Example:
        >>> overrides({"train_sasrec.learning_rate": 0.00025, "train_sasrec.input_norm": True})
        ['-S', 'train_sasrec.learning_rate=0.00025', '-S', 'train_sasrec.input_norm=true']
    """
    return [part for name, value in values.items() for part in ("-S", f"{name}={_written(value)}")]


def _written(value: Value) -> str:
    """Example:
    >>> _written(0.00001), _written(64), _written("cosine")
    ('0.00001', '64', 'cosine')
    """
    if isinstance(value, float):
        # without an exponent, which YAML 1.1 takes for text
        return f"{value:.12f}".rstrip("0") if abs(value) < 1e-4 else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def rounded(value: Value) -> Value:
    """A number of a range with four digits, which is all that a search can tell.

    Example:
        >>> rounded(0.00123456), rounded(64)
        (0.001235, 64)
    """
    return float(f"{value:.4g}") if isinstance(value, float) else value
