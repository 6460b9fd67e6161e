"""Where a training stage keeps its checkpoints while it runs, so that an interrupted one goes on and no other does."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any


@contextmanager
def scratch(stage: str, settings: Sequence[Any], inputs: Sequence[Path]) -> Iterator[Path]:
    """A folder outside of DVC's outputs, named by everything that shapes the result; removed when the block ends well.

    DVC empties a stage's outputs before it runs, and an output that persisted would also be continued under other
    parameters. The name holds the parameters, the inputs' bytes, the project's code and its place, which checkpoints
    name, so that a changed one starts afresh.

    Args:
        settings: the sections of params.yaml that the stage reads, or plain values.
        inputs: the files that the stage reads.
    """
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd())
    folder = root / ".genrec" / "scratch" / f"{stage}-{_digest([str(root.absolute()), *settings], inputs)}"
    # renamed before it is removed: a process that is killed while it removes must not leave a part to go on from
    done = folder.with_name(f".{folder.name}.done")
    for left in folder.parent.glob(f".{stage}-*.done"):
        shutil.rmtree(left, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    folder.rename(done)
    shutil.rmtree(done, ignore_errors=True)


def _digest(settings: Sequence[Any], inputs: Sequence[Path]) -> str:
    code = sorted(path for room in ("genrec", "stages") for path in Path(room).rglob("*.py"))
    values = [asdict(value) if hasattr(value, "__dataclass_fields__") else value for value in settings]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for file in [*inputs, *code]:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
