"""Where a training stage keeps its checkpoints while it runs, so that an interrupted one goes on and no other does."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from genrec.layers.processes import of_the_first, process_rank

TOLD = "told"  # a file that says that one of the processes which train together has said why it ends


@contextmanager
def scratch(stage: str, settings: Sequence[Any], inputs: Sequence[Path]) -> Iterator[Path]:
    """A folder outside of DVC's outputs, named by everything that shapes the result; removed when the block ends well.

    DVC empties a stage's outputs before it runs, and an output that persisted would also be continued under other
    parameters. The name holds the parameters, the inputs' bytes, the project's code and its place, which checkpoints
    name, so that a changed one starts afresh. Of processes that run the same training at once each has its own; those
    that train together have the first one's, which alone makes and removes it.

    Args:
        settings: the sections of params.yaml that the stage reads, or plain values.
        inputs: the files that the stage reads.
    """
    if process_rank() > 0:
        yield of_the_first(Path)
        return
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd())
    name = f"{stage}-{_digest([str(root.absolute()), *settings], inputs)}"
    room = root / ".genrec" / "scratch"
    for left in room.glob(f".{stage}-*.done"):
        shutil.rmtree(left, ignore_errors=True)
    with _first_free(room, name) as folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TOLD).unlink(missing_ok=True)
        yield of_the_first(lambda: folder)
        _remove(folder)
    _remove_left(room, name)


@contextmanager
def _first_free(room: Path, name: str) -> Iterator[Path]:
    """The first folder of a name, or of its further ones, that no running process trains in.

    Workers of DVC's queue that need the same training at once have one `DVC_ROOT`: in one folder the first to end
    would take the other's checkpoints away. Results do not depend on the folder.
    """
    for place in count():
        folder = room / (f"{name}.{place}" if place else name)
        lock = _lock(folder)
        try:
            lock.acquire()
        except Timeout:
            continue
        try:
            yield folder
        finally:
            lock.release()
        return


def _lock(folder: Path) -> BaseFileLock:
    """The operating system's, so that it ends with its process, however that ends; nobody waits for it."""
    locks = folder.parent.with_name("locks")
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{folder.name}.lock", timeout=0)


def _remove(folder: Path) -> None:
    # renamed before it is removed: a process that is killed while it removes must not leave a part to go on from
    done = folder.with_name(f".{folder.name}.done")
    folder.rename(done)
    shutil.rmtree(done, ignore_errors=True)


def _remove_left(room: Path, name: str) -> None:
    """Remove what killed trainings of the same result left; those that run keep theirs."""
    for folder in (room / name, *room.glob(f"{name}.*")):
        with suppress(Timeout), _lock(folder):
            if folder.exists():
                _remove(folder)


def _digest(settings: Sequence[Any], inputs: Sequence[Path]) -> str:
    code = sorted(path for room in ("genrec", "stages") for path in Path(room).rglob("*.py"))
    values = [asdict(value) if hasattr(value, "__dataclass_fields__") else value for value in settings]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for file in [*inputs, *code]:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
