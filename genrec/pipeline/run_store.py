"""Where MLflow keeps runs, and whether it holds a folder's state already.

`track` runs with every `dvc repro` and mostly finds nothing to do. It learns so from the bytes of the state's files and
one query of the local database: nothing is parsed, and neither mlflow nor pydantic is imported.
"""

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from genrec.errors import UserError
from genrec.pipeline.execution import Execution
from genrec.storage.files import user_path

FILES = "genrec.storage.files"
"""The tag of a run that holds `digest_of_files`."""
LIVE = "genrec.live"
"""The tag of a run that is open for an execution's live curves."""


LOCK_OF_TRACK = re.compile(rb"^  track:\n(?:    .*\n)*", re.MULTILINE)
PIPELINE_FILES = ("params.yaml", "dvc.yaml", "dvc.lock")


@dataclass(frozen=True)
class Publication:
    """What became of a state: the run that shows it, and whether it was created, completed or already published."""

    run_name: str
    run_id: str
    outcome: str
    uri: str


@dataclass(frozen=True)
class Store:
    """Where runs are kept.

    Attributes:
        uri: MLflow's tracking URI, absolute.
        database: the file behind a sqlite URI.
        artifacts: where a new experiment keeps its artifacts; None leaves that to the server.
    """

    uri: str
    database: Path | None
    artifacts: str | None

    @classmethod
    def find(cls, root: Path) -> "Store":
        """`MLFLOW_TRACKING_URI`, or mlflow.db and mlartifacts/ in the project.

        A relative sqlite path starts at the project too, one with `~` at a home: in the queue's temporary folders it
        would vanish with them.
        """
        uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        scheme = urlsplit(uri).scheme.partition("+")[0]
        if scheme == "sqlite":
            path, _, options = uri.partition(":///")[2].partition("?")
            database = root.absolute() / user_path(path, "MLFLOW_TRACKING_URI")
            artifacts = (database.parent / "mlartifacts").as_uri()
            return cls(f"sqlite:///{database}{'?' * bool(options)}{options}", database, artifacts)
        if scheme in ("http", "https", "databricks") or uri == "databricks":
            return cls(uri, None, None)
        if scheme in ("postgresql", "mysql", "mssql"):
            return cls(uri, None, (root.absolute() / "mlartifacts").as_uri())
        raise UserError(
            "MLFLOW_TRACKING_URI must be a server or a database such as sqlite:///mlflow.db, got "
            f"{without_credentials(uri)!r}"
        )

    @property
    def shown(self) -> str:
        """The URI without credentials, which may stand before the host and in the options."""
        return self.uri.partition("?")[0] if self.database else without_credentials(self.uri.partition("?")[0])

    def check(self) -> None:
        """Make the database's folder, and fail at once where MLflow would try to open the file for minutes.

        Raises:
            OSError: the folder cannot be written, or the file is something else.
        """
        if self.database is None:
            return
        self.database.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(self.database.parent, os.W_OK):
            raise PermissionError(f"folder {self.database.parent} is read-only")
        if self.database.exists():
            with self.database.open("rb") as file:
                if file.read(6) not in (b"", b"SQLite"):
                    raise OSError("the file is not a database")

    def failure(self, trouble: Exception) -> UserError:
        line = next(iter(str(trouble).splitlines()), type(trouble).__name__)
        # of requests' nested errors the innermost says it all
        reason = without_credentials(line.rpartition("(Caused by ")[2].removesuffix("))"))
        if re.search("already exists|duplicate column", reason):
            reason += "; a program that made its tables was killed: move the file away"
        return UserError(f"MLflow at {self.shown} failed: {reason} (no result is lost: `dvc repro` will publish it)")


def found_publication(folder: Path, execution: Execution) -> Publication | None:
    """The finished run that shows a folder's files, if there is nothing to add to it; None also if tracking is off.

    There is if it lacks the experiment's name, or if a live run of this execution waits for its end. Which experiment
    of MLflow it must be in, and that tracking is on, stands in params.yaml, which is one of the files.
    """
    store = Store.find(execution.root)
    if is_off_by_environment() or store.database is None or not store.database.is_file():
        return None
    tag = None if execution.experiment is None else execution.tag
    query = """SELECT name, run_uuid FROM runs
        WHERE status = 'FINISHED' AND lifecycle_stage = 'active'
        AND experiment_id IN (SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'active')
        AND run_uuid IN (SELECT run_uuid FROM tags WHERE key = ? AND value = ?)
        AND (? IS NULL OR run_uuid IN (SELECT run_uuid FROM tags WHERE key = ?))
        AND NOT EXISTS (SELECT 1 FROM tags JOIN runs USING (run_uuid)
            WHERE key = ? AND value = ? AND lifecycle_stage = 'active')
        ORDER BY start_time LIMIT 1"""
    values = (FILES, digest_of_files(folder), tag, tag, LIVE, execution.live_key)
    try:
        with closing(sqlite3.connect(f"{store.database.as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute(query, values).fetchone()
    except sqlite3.DatabaseError:
        return None  # no tables yet, locked, or broken: MLflow's way can make them, wait, or say so
    if found is None:
        return None
    execution.forget_executed()
    name, run_id = found
    return Publication(name, run_id, "already published", store.shown)


def digest_of_files(folder: Path) -> str:
    """Of every byte that a state is read from: params.yaml, dvc.yaml, dvc.lock and the reports that it names.

    Without what DVC locks of `track`: it does so after `track` has published, and once more whenever that code changes.
    """
    digest = hashlib.sha256()
    for file in state_files(folder):
        content = LOCK_OF_TRACK.sub(b"", file.read_bytes()) if file.name == "dvc.lock" else file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def state_files(folder: Path) -> Iterator[Path]:
    """The files that tell a state, those that exist, in a fixed order."""
    yield from (folder / name for name in PIPELINE_FILES if (folder / name).is_file())
    yield from report_files(folder)


def report_files(folder: Path) -> list[Path]:
    """The figures, curves and tables that stages leave in reports/."""
    patterns = ("headline.json", "*/metrics.json", "*/history.csv", "results.md", "results.json")
    return sorted(file for pattern in patterns for file in (folder / "reports").glob(pattern))


def is_off_by_environment() -> bool:
    return os.environ.get("GENREC_TRACKING", "").lower() == "off"


def without_credentials(text: str) -> str:
    """A text without the user and the password of the addresses in it.

    Example:
        >>> without_credentials("API request to http://ann:secret@host:5000/api failed")
        'API request to http://host:5000/api failed'
    """
    return re.sub(r"://[^/\s]*@", "://", text)
