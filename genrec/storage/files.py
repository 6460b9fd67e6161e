"""Files appear whole or not at all: written beside their place under another name, then renamed."""

import errno
import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# full, over its quota, the file larger than allowed, mounted to be read only
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def user_path(path: str | Path, key: str) -> Path:
    """A path as a user writes it, `~` for a home.

    Args:
        key: what the path is called where the user wrote it.

    Raises:
        UserError: it begins with the name of no user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{key}: {path} begins with the name of no user of this machine; mend it") from None


@contextmanager
def written(file: Path) -> Iterator[Path]:
    """A path to write to; what the block writes there takes the place of `file` when it ends well, else it vanishes.

    A process that is killed leaves the file as it was, and beside it a hidden .partial that the next one overwrites.

    Raises:
        UserError: the disk is full, or may not be written; the file is as it was.
    """
    partial = file.with_name(f".{file.name}.partial")
    with disk_troubles_explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def disk_troubles_explained(place: Path) -> Iterator[None]:
    """Turn an `OSError` into one line; numpy's has neither number nor name ("400 requested and 16 written")."""
    try:
        yield
    except FileNotFoundError:
        raise  # of what the block reads: what it writes to is there
    except OSError as trouble:
        raise UserError(
            f"{place} could not be written ({trouble}); free some space or mend the folder's rights, then run again: "
            "all earlier results are as they were"
        ) from trouble


def save_array(array: "NDArray[Any]", file: Path) -> None:
    """Write an .npy file, whole or not at all.

    Through memory: numpy itself hands small arrays to a buffer of C's, and does not hear when that meets a full disk.
    """
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array)
    with written(file) as partial:
        partial.write_bytes(buffer.getvalue())


def save_arrays(arrays: "Mapping[str, NDArray[Any]]", file: Path) -> None:
    """Write an .npz file, whole or not at all, whose bytes depend on nothing but the arrays.

    Not by numpy: it asks zipfile for the fields of files above 4 GB, and Python wrote them otherwise before 3.11.4.
    """
    import numpy as np

    with written(file) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            member = zipfile.ZipInfo(f"{name}.npy")
            member.external_attr = 0o600 << 16  # whoever unzips it can read what comes out
            archive.writestr(member, buffer.getvalue())


def load_arrays(file: Path, way_out: str = "delete it and run `dvc repro`") -> "dict[str, NDArray[Any]]":
    """All arrays of an .npz file, or the one of an .npy file under the name "array"; nothing is unpickled.

    Raises:
        UserError: the file is missing, damaged, or holds something else than numbers.
    """
    import numpy as np

    if not file.is_file():
        raise UserError(f"{file} not found; run `dvc repro`, which makes it")
    try:
        with file.open("rb") as stream:  # ours: numpy leaves its own open when the file is damaged
            content = np.load(stream, allow_pickle=False)
            return {"array": content} if isinstance(content, np.ndarray) else dict(content)
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as mistake:
        reason = " ".join(str(mistake).split())
        raise UserError(f"{file} is no sound file of numpy arrays ({reason}); {way_out}") from None
