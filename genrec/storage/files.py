"""Files appear whole or not at all: written beside their place under another name, then renamed."""

import errno
import io
import math
import mmap
import struct
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
LOCAL_HEADER = 30  # bytes of a zip member's own header, before its name


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
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
            member = zipfile.ZipInfo(f"{name}.npy")
            member.external_attr = 0o600 << 16  # whoever unzips it can read what comes out
            member.file_size = len(header.getvalue()) + array.nbytes
            with archive.open(member, "w") as stream:  # a piece at a time: the array may be most of the memory
                np.save(stream, array)


def load_arrays(file: Path, way_out: str = "delete it and run `dvc repro`") -> "dict[str, NDArray[Any]]":
    """All arrays of an .npz file, or the one of an .npy file under the name "array"; nothing is unpickled.

    Raises:
        UserError: the file is missing, damaged, or holds something else than numbers.
    """
    import numpy as np

    with _damage_explained(file, way_out), file.open("rb") as stream:  # ours: numpy leaves its own open at damage
        content = np.load(stream, allow_pickle=False)
        return {"array": content} if isinstance(content, np.ndarray) else dict(content)


def mapped_arrays(file: Path) -> "dict[str, NDArray[Any]]":
    """As `load_arrays`, of an .npz file that `save_arrays` wrote: views of the file, which may not be written to.

    The system reads their pages when they are looked at, and forgets them when it needs the memory. The sums of all
    bytes are checked first, a piece at a time. The arrays of another's compressed file are read whole.

    Raises:
        UserError: the file is missing, damaged, or holds something else than numbers.
    """
    with _damage_explained(file, "delete it and run `dvc repro`"), file.open("rb") as stream:
        with zipfile.ZipFile(stream) as archive:
            damaged, members = archive.testzip(), archive.infolist()
        if damaged is not None:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {damaged!r}")
        if all(member.compress_type == zipfile.ZIP_STORED for member in members):
            pages = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            return {member.filename.removesuffix(".npy"): _view(pages, member.header_offset) for member in members}
    return load_arrays(file)


def _view(pages: mmap.mmap, offset: int) -> "NDArray[Any]":
    """The array of a member of an archive, by the place of its header."""
    import numpy as np

    # of the zip format's local header the two last fields are the lengths of what stands behind it
    pages.seek(offset + LOCAL_HEADER + sum(struct.unpack_from("<HH", pages, offset + LOCAL_HEADER - 4)))
    version = np.lib.format.read_magic(pages)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, kind = read(pages)
    if kind.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    flat = np.frombuffer(pages, kind, math.prod(shape), pages.tell())
    return flat.reshape(shape, order="F" if is_fortran else "C")


@contextmanager
def _damage_explained(file: Path, way_out: str) -> Iterator[None]:
    if not file.is_file():
        raise UserError(f"{file} not found; run `dvc repro`, which makes it")
    try:
        yield
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as mistake:
        reason = " ".join(str(mistake).split())
        raise UserError(f"{file} is no sound file of numpy arrays ({reason}); {way_out}") from None
