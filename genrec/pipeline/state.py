"""What the files of a folder say about its pipeline: parameters, what DVC locked, figures, curves, the commit.

`State` is all that a published run shows. It is read from params.yaml, dvc.yaml, dvc.lock and reports/ alone, so a
state that DVC took from its cache tells as much as one that was computed.
"""

import csv
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from genrec.errors import UserError
from genrec.params.reading import PARAMS_FILE, Params, flatten, read_yaml
from genrec.pipeline.execution import Execution
from genrec.pipeline.run_store import report_files
from genrec.pipeline.runs_view import SWEEP

LOCK_FILE = Path("dvc.lock")
PIPELINE_FILE = Path("dvc.yaml")
REPORTS = Path("reports")
HEADLINE = REPORTS / "headline.json"
PAGES = (REPORTS / "report.html", REPORTS / "results.md")
"""What a person reads first; the first that is there."""
PREPARED = Path("data/prepared")

# What cannot change a result has no part in a state's identity.
UNRELATED_SECTIONS = ("runtime", "track")
MAX_ARTIFACT_BYTES = 6_000_000

Points = dict[tuple[str, int], float]
"""(metric name, step) -> value."""


@dataclass(frozen=True)
class State:
    """One state of the pipeline.

    Attributes:
        params: dotted name -> value.
        stages: the stages that dvc.yaml names, as dvc.lock describes them.
    """

    folder: Path
    params: dict[str, Any]
    stages: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path, params: Params) -> "State":
        """Read dvc.lock's stages, without those that dvc.yaml has lost: DVC keeps them for ever.

        Raises:
            UserError: a file is missing, or params.yaml is no longer the one that made the outputs.
        """
        for file in (PIPELINE_FILE, LOCK_FILE):
            if not (folder / file).exists():
                raise UserError(f"{folder / file} not found; run `dvc repro`, which publishes at its end")
        pipeline = read_yaml(folder / PIPELINE_FILE)["stages"]
        locked = read_yaml(folder / LOCK_FILE).get("stages", {})
        # a stage of a matrix is locked as name@value
        stages = {name: entry for name, entry in locked.items() if name.partition("@")[0] in pipeline}
        frozen = {name for name, entry in pipeline.items() if entry.get("frozen")}
        _check_params_made_outputs(
            {name: entry for name, entry in stages.items() if name not in frozen}, read_yaml(folder / PARAMS_FILE)
        )
        return cls(folder, flatten(params), stages)

    @cached_property
    def fingerprint(self) -> str:
        """The state's identity: its parameters, the hashes of its outputs, its reports."""
        content = {
            "params": _related(self.params),
            "outs": {path: digest for outs in self.outs.values() for path, digest in outs.items()},
            "reports": {
                str(file.relative_to(self.folder)): _sha256(file.read_bytes()) for file in report_files(self.folder)
            },
        }
        return _sha256(json.dumps(content, sort_keys=True).encode())

    @property
    def name(self) -> str:
        """Commit and fingerprint, both short."""
        return "-".join(part[:7] for part in (_commit(self.folder), self.fingerprint) if part)

    @cached_property
    def outs(self) -> dict[str, dict[str, str]]:
        """Stage -> path of an output -> its hash."""
        return {
            stage: {out["path"]: out.get(out.get("hash", "md5"), "") for out in entry.get("outs", [])}
            for stage, entry in self.stages.items()
        }

    @cached_property
    def curves(self) -> Points:
        """The points of every reports/<stage>/history.csv, named <stage>/<column>, step = epoch."""
        files = sorted((self.folder / REPORTS).glob("*/history.csv"))
        return {(f"{file.parent.name}/{name}", epoch): value for file in files for name, epoch, value in _history(file)}

    @cached_property
    def headline(self) -> dict[str, float]:
        """The few figures that people compare by, in their order; none before a stage has written them."""
        file = self.folder / HEADLINE
        return dict(numbers(json.loads(file.read_text(encoding="utf-8")))) if file.exists() else {}

    @cached_property
    def figures(self) -> Points:
        """The headline under short names, then the numbers of every reports/<stage>/metrics.json, all at step 0.

        The latter are named stages/<stage>/<name>: MLflow's pages sort names, and what people compare by stands above
        hundreds of others only if their prefix sorts behind it. Text stays in the artifact.
        """
        points: Points = {(name, 0): value for name, value in self.headline.items()}
        for file in sorted((self.folder / REPORTS).glob("*/metrics.json")):
            found = numbers(json.loads(file.read_text(encoding="utf-8")))
            points |= {(f"stages/{file.parent.name}/{name}", 0): value for name, value in found}
        return points

    @property
    def artifacts(self) -> list[Path]:
        """What a reader needs to see or rebuild the state, relative to the folder; large files stay with DVC."""
        reports = (file for file in (self.folder / REPORTS).rglob("*") if file.is_file() and file.name[0] != ".")
        small = sorted(file for file in reports if file.stat().st_size <= MAX_ARTIFACT_BYTES)
        return [PARAMS_FILE, PIPELINE_FILE, LOCK_FILE, *(file.relative_to(self.folder) for file in small)]

    def _pages(self, run_page: str) -> list[str]:
        """Markdown: a link to the page that a person reads first."""
        found = [page for page in PAGES if page in self.artifacts]
        return [f"[{page.name}]({run_page}/artifacts/{page.as_posix()})" for page in found[:1]]

    def points(self, execution: Execution) -> Points:
        """Figures, curves, and how many seconds the executed stages took."""
        seconds = {(_allowed(f"seconds/{stage}"), 0): took for stage, took in execution.executed().items()}
        return {**self.figures, **self.curves, **seconds}

    def tags(self, execution: Execution, run_page: str) -> dict[str, str]:
        """What a run holds: the lock, the checkpoints by their hashes, which stages ran, what a reader sees first.

        Args:
            run_page: the run's page within MLflow's, such as `#/experiments/1/runs/<run_id>`.
        """
        executed = execution.executed()
        cached = [stage for stage, outs in self.outs.items() if outs and stage not in executed]
        lock = (self.folder / LOCK_FILE).read_bytes()
        tags = {
            "dvc.lock_md5": hashlib.md5(lock, usedforsecurity=False).hexdigest(),
            "pipeline.executed": ", ".join(executed) or "none",
            "pipeline.cached": ", ".join(cached) or "none",
            "mlflow.note.content": "\n\n".join(
                [*_summary(self.headline), *self._pages(run_page), _way_back(self.folder, execution, run_page)]
            ),
        }
        for stage, outs in self.outs.items():
            # lines as md5sum prints them
            models = [f"{digest}  {path}" for path, digest in outs.items() if not path.startswith(f"{REPORTS}/")]
            if stage.startswith("train_") and models:
                tags[_allowed(f"model.{stage}.dvc_md5")] = "\n".join(models)
        return tags


def origin_tags(folder: Path, execution: Execution) -> dict[str, str]:
    """Where a run comes from: the commit, the experiment, the sweep of which DVC numbers the experiments."""
    tags = {"mlflow.source.name": str(PIPELINE_FILE)}
    commit = _commit(folder)
    if commit:
        dirty = "true" if _is_dirty(folder) else "false"
        tags.update({"git.commit": commit, "mlflow.source.git.commit": commit, "git.dirty": dirty})
    if execution.experiment is not None:
        tags["dvc.exp_name"] = execution.experiment
        tags[SWEEP] = re.sub(r"-\d+$", "", execution.experiment)
        tags[execution.tag] = tags["dvc.baseline_rev"] = execution.baseline or ""
    return tags


def _summary(headline: Mapping[str, float]) -> list[str]:
    """Markdown: the headline figures as a table of a row a model, and those of no model in a line.

    Example:
        >>> print(*_summary({"ndcg_tiger": 0.3, "ndcg_sasrec": 0.2, "recall_tiger": 0.5, "coverage": 0.7}), sep="\\n")
        | | ndcg | recall |
        |---|---|---|
        | tiger | 0.3 | 0.5 |
        | sasrec | 0.2 |  |
        coverage 0.7
    """
    of_models: dict[str, dict[str, float]] = {}
    for name, value in headline.items():
        measure, _, model = name.partition("_")
        of_models.setdefault(model, {})[measure] = value
    others = of_models.pop("", {})
    measures = list(dict.fromkeys(measure for row in of_models.values() for measure in row))
    lines = [f"| | {' | '.join(measures)} |", "|---" * (len(measures) + 1) + "|"]
    for model, row in of_models.items():
        cells = [f"{row[each]:g}" if each in row else "" for each in measures]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    line = ", ".join(f"{name} {value:g}" for name, value in others.items())
    return ["\n".join(lines)] * bool(of_models) + [line] * bool(others)


def _way_back(folder: Path, execution: Execution, run_page: str) -> str:
    """Markdown: how to get this state's files again."""
    run_id = run_page.rpartition("/")[2]
    commit = _commit(folder)
    if execution.experiment is not None:
        lines = [f"dvc exp apply {execution.experiment}"]
    elif commit and not _is_dirty(folder):
        lines = [f"git checkout {commit}", "dvc checkout"]
    else:
        # published before its commit: dvc.lock is among the run's artifacts
        lines = [f"git checkout {commit}"] if commit else []
        lines += [f"mlflow artifacts download --run-id {run_id} --dst-path .", "dvc checkout"]
    return "\n".join(["To get this state back:", "", "```", *lines, "```"])


def params_digest(params: Mapping[str, Any]) -> str:
    """The identity of all parameters that can change a result, given by their dotted names."""
    return _sha256(json.dumps(_related(params), sort_keys=True).encode())


def _commit(folder: Path) -> str:
    """The commit that is checked out, nothing where there is no repository or no git."""
    return _git(folder, "rev-parse", "HEAD")


def _is_dirty(folder: Path) -> bool:
    """Whether tracked files have changed; a dvc.lock that was never committed is a change too."""
    status = ("status", "--porcelain")
    changes = _git(folder, *status, "--untracked-files=no")
    return bool(changes or _git(folder, *status, "--untracked-files=normal", str(LOCK_FILE)))


def _git(folder: Path, *arguments: str) -> str:
    # without optional locks `git status` does not disturb DVC's own git commands
    command = ["git", "--no-optional-locks", *arguments]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _check_params_made_outputs(stages: Mapping[str, Mapping[str, Any]], content: Mapping[str, Any]) -> None:
    """Refuse a params.yaml that was edited while the pipeline ran: the run would show old figures with new values."""
    for stage, entry in stages.items():
        for name, locked in entry.get("params", {}).get(str(PARAMS_FILE), {}).items():
            value: Any = content
            for key in name.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
            if _numeric(value) != _numeric(locked) and entry.get("outs"):
                raise UserError(
                    f"no run was published: {PARAMS_FILE} changed since stage {stage} ran "
                    f"({name} was {locked!r}, is {value!r}); run `dvc repro` again"
                )


def _numeric(value: Any) -> Any:
    """A value whose numbers are numbers: 1e-3, which DVC reads as one and locks as 0.001, is text in YAML 1.1.

    Example:
        >>> _numeric({"learning_rate": "1e-3", "loss": "full_softmax"})
        {'learning_rate': 0.001, 'loss': 'full_softmax'}
    """
    if isinstance(value, Mapping):
        return {key: _numeric(each) for key, each in value.items()}
    if isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]*\d\.?e[-+]?\d+", value, re.IGNORECASE):
        return float(value)
    return value


def _history(file: Path) -> Iterator[tuple[str, int, float]]:
    """(column, epoch, value) of each cell that is not blank."""
    with file.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            epoch = int(row.pop("epoch"))
            yield from ((name, epoch, float(value)) for name, value in row.items() if value)


def numbers(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested mappings, their keys joined by slashes.

    Example:
        >>> list(numbers({"test": {"recall_at_10": 0.5, "protocol": "full"}, "n_users": 3}))
        [('test/recall_at_10', 0.5), ('n_users', 3.0)]
    """
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)


def _allowed(name: str) -> str:
    """A name as MLflow accepts it.

    Example:
        >>> _allowed("train@seed+1")
        'train_seed_1'
    """
    return re.sub(r"[^\w\-./ :]", "_", name)


def _related(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name.partition(".")[0] not in UNRELATED_SECTIONS}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
