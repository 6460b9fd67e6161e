"""A package that may be replaced while it is in use: the new one is taken up between two answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from genrec.errors import UserError
from genrec.serving.folder import MANIFEST, resolved

T = TypeVar("T")
Stamp = tuple[int, int, int]


class Live(Generic[T]):
    """What was loaded from a package's folder, loaded again once its manifest is another file.

    While the folder is absent, half written or damaged, the old one goes on.

    Args:
        load: a folder to what is made of it, whole: nothing may be read later.
    """

    def __init__(self, folder: Path, load: Callable[[Path], T]) -> None:
        self._folder, self._load = folder, load
        self._stamp = self._stamp_now()
        self._loaded = load(folder)

    def current(self) -> T:
        """The newest that could be loaded; two calls give one object as long as nothing was replaced."""
        stamp = self._stamp_now()
        if stamp not in (None, self._stamp):
            try:
                self._loaded = self._load(self._folder)
            except UserError:
                return self._loaded  # tried again with the next question
            self._stamp = stamp
        return self._loaded

    def _stamp_now(self) -> Stamp | None:
        try:
            found = (resolved(self._folder) / MANIFEST).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
