"""MLflow: one complete run per state of the pipeline, live curves while a stage trains; the one `import mlflow`.

`publish` builds the run from a `State`, that is from files alone. The state's fingerprint names the run: publishing
again finds it, completes it if it was left half filled, and never makes a second one.

mlflow takes more than a second to import, so functions import it when they need it; run_store.py recognises without it
a state that the local database holds already.
"""

import atexit
import json
import logging
import math
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from genrec.errors import UserError
from genrec.params.reading import Params, flatten, read_params
from genrec.pipeline.execution import Execution
from genrec.pipeline.registry import register_package
from genrec.pipeline.run_store import FILES, LIVE, Publication, Store, digest_of_files, is_off_by_environment
from genrec.pipeline.runs_view import KIND, TAG, runs_view
from genrec.pipeline.state import PREPARED, State, origin_tags, params_digest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FINGERPRINT = "genrec.fingerprint"
PARAMS_DIGEST = "genrec.params"
LIVE_PROCESS = "genrec.live_process"

MLFLOW_MAX_BATCH = {"tags": 100, "params": 100, "metrics": 1000}
# History files keep six significant digits.
SAME_VALUE = 1e-5
ATTEMPTS_ON_A_LOCKED_DATABASE = 5


def publish() -> Publication | None:
    """Make sure that the store holds one finished, complete run of the current folder's state; None if tracking is off.

    Runs in the queue's temporary folders too: files are read from the current folder, the store and the locks are
    those of the project that DVC names in `DVC_ROOT`.

    Raises:
        UserError: the store does not answer or cannot be used. All results are kept; the next `dvc repro` publishes.
    """
    execution = Execution.current()
    params = read_params()
    publication = None
    if not _is_off(params):
        state = State.read(Path.cwd(), params)
        store = Store.find(execution.root)
        publication = _publish_with_retries(state, store, execution)
    execution.forget_executed()
    return publication


def live_curves(stage: str) -> Callable[[int, Mapping[str, float]], None]:
    """A listener for a trainer, called after every epoch with (epoch, metrics): the curves appear while it trains.

    All stages of one `dvc repro` share a run in state RUNNING, opened with the first epoch. It belongs to the
    execution (the experiment's name, or "workspace", in this project) and to the parameters at its start:

    - the next stage, or a repetition after a kill, re-opens it when the parameters are still the same;
    - with other parameters it ends as KILLED, and a new one begins;
    - `publish` completes it only if each of its points stands in a history.csv, once. Otherwise, for instance after a
      kill and a change of code, it is deleted and the run is built from the files.

    A stage that is run by hand ends it too, as KILLED: nothing follows that would complete it.

    Trouble with the store ends the live curves with one warning, never the training.
    """
    params = read_params()
    return (lambda epoch, metrics: None) if _is_off(params) else _LiveCurves(stage, params)


@dataclass(frozen=True)
class FinishedRun:
    """A published state, as MLflow shows it: parameters as text, metrics by their last value."""

    params: Mapping[str, str]
    metrics: Mapping[str, float]


def finished_runs() -> list[FinishedRun]:
    """All finished runs of the project's experiment, the newest first.

    Raises:
        UserError: the store does not answer or cannot be used.
    """
    execution, params = Execution.current(), read_params()
    store = Store.find(execution.root)
    try:
        with _locked_project(execution.root):
            client, experiment_id = _open_store(store, params.track.experiment)
        found: list[Run] = []
        token = None
        while not found or token:
            page = client.search_runs([experiment_id], "attributes.status = 'FINISHED'", page_token=token)
            found, token = [*found, *page], page.token
            if not page:
                break
    except _store_troubles() as trouble:
        raise store.failure(trouble) from trouble
    return [FinishedRun(run.data.params, run.data.metrics) for run in found]


def record_trial(
    root: Path, experiment: str, name: str, params: Mapping[str, Any], figures: Mapping[str, float]
) -> None:
    """Complete the run that a search's trial opened with its curves; make it where DVC had all from its cache.

    Args:
        experiment: of MLflow, in which the trials of one search stand.
        name: of the trial's experiment in DVC, and of its run.
        params: what the search varied.
        figures: the objective; none where the trial failed.

    Raises:
        UserError: the store does not answer or cannot be used.
    """
    if _is_off(read_params()):
        return
    store = Store.find(root)
    try:
        with _locked_project(root):
            client, experiment_id = _open_store(store, experiment)
            mine = _runs_tagged(client, experiment_id, LIVE, Execution(root, name, None).live_key)
            run = mine[0] if mine else client.create_run(experiment_id, run_name=name)
            missing = {key: value for key, value in params.items() if key not in run.data.params}
            points = {(key, 0): value for key, value in figures.items() if key not in run.data.metrics}
            _log(client, run.info.run_id, params=missing, points=points, start=run.info.start_time)
            for tag in {LIVE, LIVE_PROCESS} & run.data.tags.keys():
                client.delete_tag(run.info.run_id, tag)
            client.set_terminated(run.info.run_id, "FINISHED" if figures else "FAILED")
    except _store_troubles() as trouble:
        raise store.failure(trouble) from trouble


def opened_experiment() -> tuple[Store, str]:
    """The store and the id of the project's experiment in it, both made if they are missing.

    Raises:
        UserError: the store does not answer or cannot be used.
    """
    execution = Execution.current()
    store = Store.find(execution.root)
    try:
        with _locked_project(execution.root):
            return store, _open_store(store, read_params().track.experiment)[1]
    except _store_troubles() as trouble:
        raise store.failure(trouble) from trouble


def _is_off(params: Params) -> bool:
    return not params.track.enabled or is_off_by_environment()


def _locked_project(root: Path) -> Any:
    """One process at a time creates the database (others would crash in its migrations) or looks for its run."""
    from filelock import FileLock

    folder = root / ".genrec"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "mlflow.lock")


def _open_store(store: Store, experiment: str) -> tuple["MlflowClient", str]:
    """A client and the id of the experiment, both created when missing; to be called in `_locked_project`."""
    store.check()
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    # it would print the server's address with the password
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # its own seven retries of two minutes would hold up a training
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    from mlflow import MlflowClient

    # It prints a traceback for each error that it raises as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if store.database is not None and not _has_content(store.database):
        _create_database(store.database)
    client = MlflowClient(tracking_uri=store.uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return client, client.create_experiment(experiment, artifact_location=store.artifacts, tags=KIND)
    if found.lifecycle_stage != "active":
        raise UserError(
            f"experiment {experiment!r} of {store.shown} is deleted; choose another track.experiment or restore it: "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
        )
    for name in KIND.keys() - found.tags.keys():
        client.set_experiment_tag(found.experiment_id, name, KIND[name])
    return client, found.experiment_id


def _share_view(client: "MlflowClient", experiment_id: str, state: State, execution: Execution) -> None:
    """Give the experiment the view that shows this state's headline figures."""
    experiment = client.get_experiment(experiment_id)
    names = {name for name, _ in state.points(execution)}
    view = runs_view(list(state.headline), names, experiment.creation_time or 0)
    if state.headline and experiment.tags.get(TAG) != view:
        client.set_experiment_tag(experiment_id, TAG, view)


def _has_content(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _create_database(database: Path) -> None:
    """Make the tables in another file, which then takes its place; to be called in `_locked_project`.

    MLflow's migrations take seconds and do not go on from what a kill leaves of them: the first `dvc repro` of all,
    stopped in its first epoch, would leave a database that no later one can use.
    """
    from mlflow import MlflowClient

    # of this project, as others may share the database
    folder = database.with_name(f".{database.name}.{Execution.current().project_key}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        draft, whole = folder / "draft.db", folder / "whole.db"
        MlflowClient(tracking_uri=f"sqlite:///{draft}")
        # a copy, since MLflow keeps its connections to the draft
        with closing(sqlite3.connect(draft)) as source, closing(sqlite3.connect(whole)) as copy:
            source.backup(copy)
        if not _has_content(database):
            whole.replace(database)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _store_troubles() -> tuple[type[Exception], ...]:
    """What a store that is locked, broken or gone raises; requests' errors are OSErrors."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def _publish_with_retries(state: State, store: Store, execution: Execution) -> Publication:
    """Publish; a database that others keep locked is tried again, which is safe since publishing is idempotent."""
    for attempt in range(ATTEMPTS_ON_A_LOCKED_DATABASE):
        time.sleep(attempt)
        try:
            with _locked_project(execution.root):
                return _publish(state, store, execution)
        except _store_troubles() as trouble:
            last = trouble
            if "database is locked" not in str(trouble):
                break
    if getattr(last, "error_code", "") == "INVALID_PARAMETER_VALUE":
        raise last  # our mistake, not the store's
    raise store.failure(last) from last


def _publish(state: State, store: Store, execution: Execution) -> Publication:
    client, experiment_id = _open_store(store, state.params["track.experiment"])
    known = _runs_tagged(client, experiment_id, FINGERPRINT, state.fingerprint)
    live = _runs_tagged(client, experiment_id, LIVE, execution.live_key)
    finished = [run for run in known if run.info.status == "FINISHED"]
    adoptable = known or [run for run in live if _can_be_completed(client, run, state)]
    if finished:
        run, outcome = finished[0], "already published"
        name = run.info.run_name
        if execution.experiment is not None:
            client.set_tag(run.info.run_id, execution.tag, execution.baseline or "")
        client.set_tag(run.info.run_id, FILES, digest_of_files(state.folder))
    else:
        if adoptable:
            run, outcome = adoptable[0], "completed"
        else:
            run, outcome = client.create_run(experiment_id, tags={FINGERPRINT: state.fingerprint}), "created"
        name = execution.experiment or state.name
        _fill_or_fail(client, run, name, state, execution)
        _share_view(client, experiment_id, state, execution)
    for other in live:
        if other.info.run_id != run.info.run_id:
            _discard(client, other, params_digest(state.params))
    _end_abandoned(client, experiment_id, execution)
    return Publication(name, run.info.run_id, outcome, store.shown)


def _runs_tagged(client: "MlflowClient", experiment_id: str, tag: str, value: str) -> list["Run"]:
    """The active runs with that tag, the oldest first."""
    found: list[Run] = client.search_runs(
        [experiment_id], filter_string=f"tags.`{tag}` = '{value}'", order_by=["attributes.start_time ASC"]
    )
    return found


def _fill_or_fail(client: "MlflowClient", run: "Run", name: str, state: State, execution: Execution) -> None:
    from mlflow.exceptions import MlflowException

    run_id = run.info.run_id
    try:
        client.set_tag(run_id, FINGERPRINT, state.fingerprint)
        client.update_run(run_id, status="RUNNING", name=name)
        _fill(client, run, state, execution)
        # before the end: a finished run is looked at no more, and a package that could not be registered would stay so
        register_package(client, run_id, state.folder, state.params["package.registered_name"])
        # before the end, so that a run with this tag is never a finished one
        for tag in {LIVE, LIVE_PROCESS} & run.data.tags.keys():
            client.delete_tag(run_id, tag)
    except BaseException:
        with suppress(MlflowException, OSError):
            client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")


def _fill(client: "MlflowClient", run: "Run", state: State, execution: Execution) -> None:
    """Add what the run lacks. Times follow from the run's start, so that doing it twice changes nothing."""
    run_id = run.info.run_id
    there = {(name, step) for name, step, _ in _points_of(client, run)}
    _log(
        client,
        run_id,
        tags={
            FILES: digest_of_files(state.folder),
            **origin_tags(state.folder, execution),
            **state.tags(execution, f"#/experiments/{run.info.experiment_id}/runs/{run_id}"),
        },  # fmt: skip
        params={name: value for name, value in state.params.items() if name not in run.data.params},
        points={key: value for key, value in state.points(execution).items() if key not in there},
        start=run.info.start_time,
    )
    _log_files(client, run_id, state)


def _log(
    client: "MlflowClient",
    run_id: str,
    tags: Mapping[str, str] = MappingProxyType({}),
    params: Mapping[str, Any] = MappingProxyType({}),
    points: Mapping[tuple[str, int], float] = MappingProxyType({}),
    start: int = 0,
) -> None:
    """Log as much at once as MLflow takes; a point's time is `start` and as many milliseconds as its step."""
    from mlflow.entities import Metric, Param, RunTag

    entities: dict[str, list[Any]] = {
        "tags": [RunTag(name, value) for name, value in tags.items()],
        "params": [Param(name, str(value)) for name, value in params.items()],
        "metrics": [Metric(name, value, start + step, step) for (name, step), value in points.items()],
    }
    for kind, size in MLFLOW_MAX_BATCH.items():
        for first in range(0, len(entities[kind]), size):
            batch: Any = {kind: entities[kind][first : first + size]}
            client.log_batch(run_id, **batch)


def _log_files(client: "MlflowClient", run_id: str, state: State) -> None:
    """The artifacts, the list of installed packages, and by its digest the data set."""
    from mlflow.entities import Dataset, DatasetInput

    for file in state.artifacts:
        parent = file.parent.as_posix()
        client.log_artifact(run_id, str(state.folder / file), None if parent == "." else parent)
    packages = {f"{found.metadata['Name']}=={found.version}" for found in distributions()}
    client.log_text(run_id, "\n".join(sorted(packages, key=str.lower)) + "\n", "pip-freeze.txt")
    for outs in state.outs.values():
        if str(PREPARED) in outs:
            source = json.dumps({"uri": str(PREPARED)})
            dataset = Dataset(state.params["fetch_data.name"], outs[str(PREPARED)], "local", source)
            client.log_inputs(run_id, datasets=[DatasetInput(dataset, [])])


def _points_of(client: "MlflowClient", run: "Run") -> list[tuple[str, int, float]]:
    return [
        (point.key, point.step, point.value)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    ]


class _LiveCurves:
    """The listener of `live_curves`. It opens its run with the first epoch, so only the process that reports does."""

    def __init__(self, stage: str, params: Params) -> None:
        self.stage = stage
        self.params = params
        self.execution = Execution.current()
        self.store = Store.find(self.execution.root)
        self.client: MlflowClient | None = None
        self.run_id = ""
        self.stopped = False

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if self.stopped:
            return
        try:
            self._log(epoch, metrics)
        except UserError as trouble:
            self._stop(trouble)
        except _store_troubles() as trouble:
            self._stop(self.store.failure(trouble))

    def _stop(self, reason: UserError) -> None:
        self.stopped = True
        sys.stderr.write(f"warning: no more live curves of {self.stage}, the training goes on; {reason}\n")

    def _log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if self.client is None:
            self.client, self.run_id = _open_live_run(self.params, self.store, self.execution)
            if "DVC_STAGE" not in os.environ:
                # run by hand: no stage `track` follows that would complete the run
                atexit.register(self._end)
        points = {(f"{self.stage}/{name}", epoch): value for name, value in metrics.items()}
        _log(self.client, self.run_id, points=points, start=int(time.time() * 1000))

    def _end(self) -> None:
        """As `_end_abandoned` ends those that a killed process left; a later `dvc repro` may re-open it."""
        assert self.client is not None
        with suppress(*_store_troubles()):
            if self.client.get_run(self.run_id).info.status == "RUNNING":
                self.client.set_terminated(self.run_id, "KILLED")


def _open_live_run(params: Params, store: Store, execution: Execution) -> tuple["MlflowClient", str]:
    """The execution's live run: the one that is there, if its parameters are ours, else a new one."""
    flat = flatten(params)
    with _locked_project(execution.root):
        client, experiment_id = _open_store(store, params.track.experiment)
        digest = params_digest(flat)
        mine = None
        for run in _runs_tagged(client, experiment_id, LIVE, execution.live_key):
            if run.data.tags.get(PARAMS_DIGEST) == digest:
                mine = run
                client.update_run(run.info.run_id, status="RUNNING")
            else:
                _discard(client, run, digest)
        if mine is None:
            tags = {LIVE: execution.live_key, PARAMS_DIGEST: digest, **origin_tags(Path.cwd(), execution)}
            mine = client.create_run(experiment_id, tags=tags, run_name=execution.experiment or "live")
            _log(client, mine.info.run_id, params=flat)
        # DVC, or a shell that lives as long as the stage
        client.set_tag(mine.info.run_id, LIVE_PROCESS, str(os.getppid()))
        _end_abandoned(client, experiment_id, execution)
        return client, mine.info.run_id


def _can_be_completed(client: "MlflowClient", run: "Run", state: State) -> bool:
    """Whether a live run shows this state: its parameters, and no point that the history files lack or repeat."""
    if run.data.tags.get(PARAMS_DIGEST) != params_digest(state.params):
        return False
    points = _points_of(client, run)
    if len({(name, step) for name, step, _ in points}) < len(points):
        return False
    return all(_same(value, state.curves.get((name, step))) for name, step, value in points)


def _same(value: float, expected: float | None) -> bool:
    if expected is None:
        return False
    return math.isclose(value, expected, rel_tol=SAME_VALUE) or (math.isnan(value) and math.isnan(expected))


def _discard(client: "MlflowClient", run: "Run", digest: str) -> None:
    """End a live run that will not be completed: a duplicate of the published one goes, other parameters' stays."""
    client.delete_tag(run.info.run_id, LIVE)
    client.set_terminated(run.info.run_id, "KILLED")
    if run.data.tags.get(PARAMS_DIGEST) == digest:
        client.delete_run(run.info.run_id)


def _end_abandoned(client: "MlflowClient", experiment_id: str, execution: Execution) -> None:
    """Mark the project's live runs whose `dvc` has ended as KILLED: an experiment that failed never comes back.

    They keep their tag, so a later stage of the same execution may still re-open them.
    """
    running = f"tags.`{LIVE}` LIKE '%@{execution.project_key}' AND attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment_id], filter_string=running):
        process = run.data.tags.get(LIVE_PROCESS)
        if process is not None and not _is_alive(int(process)):
            client.set_terminated(run.info.run_id, "KILLED")


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        return True  # where signal 0 would end the process
    try:
        os.kill(process, 0)
    except OSError as answer:
        return not isinstance(answer, ProcessLookupError)
    return True
