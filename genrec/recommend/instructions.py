"""Which package a command line names, before it is read in earnest."""

import argparse
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path("data/package")


def package_of(arguments: Sequence[str]) -> Path:
    """The folder behind `--package`, or the default.

    Example:
        >>> package_of(["--user", "1", "--package=mine"]).name, package_of(["--user"]).as_posix()
        ('mine', 'data/package')
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--package", type=Path, default=PACKAGE)
    try:
        found: Path = parser.parse_known_args(list(arguments))[0].package
    except argparse.ArgumentError:  # `--package` without a folder, of which the command tells
        return PACKAGE
    return found.expanduser()
