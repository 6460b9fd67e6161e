"""How a module becomes a command: `--help` from its docstring, one line instead of a traceback for a user's mistake."""

import argparse
import ctypes
import sys
import time
from collections.abc import Callable, Sequence

from genrec.errors import UserError
from genrec.pipeline.execution import record_executed
from genrec.storage.files import FULL_DISK


def run_stage(main: Callable[..., None], description: str | None, names: Sequence[str] = ()) -> None:
    """Run a stage's `main`, which takes its settings from params.yaml; exit with 1 and one line on a `UserError`.

    How long a stage took is noted for the run that `track` publishes, if it ended well.

    Args:
        names: of what the stage's file runs for, one at a time; the command line names it, and `main` is given it.
    """
    parser = argparse.ArgumentParser(description=description, epilog="Its settings stand in params.yaml.")
    if names:
        parser.add_argument("name", choices=names, help="for which of the list")
    arguments = vars(parser.parse_args()).values()
    keep_freed_memory()
    started = time.perf_counter()

    def main_timed() -> None:
        main(*arguments)
        record_executed(time.perf_counter() - started)

    run_command(main_timed)


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; a `UserError`, or a full disk, is printed as one line and ends the process with status 1."""
    try:
        main()
    except UserError as mistake:
        sys.exit(f"error: {mistake}")
    except OSError as trouble:
        if trouble.errno not in FULL_DISK:
            raise
        sys.exit(f"error: {trouble}; free some space and run again: all earlier results are as they were")


def keep_freed_memory() -> bool:
    """Let glibc hand freed memory out again instead of returning it to the system; False where there is no glibc.

    Each training step frees what the next one needs. Fetching it anew, page by page and zeroed, is a tenth of a step.
    """
    mmap_threshold, trim_threshold = -3, -1  # as malloc.h numbers them
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    # glibc before 2.35 takes at most 32 MiB
    kept = libc.mallopt(mmap_threshold, 2**30) or libc.mallopt(mmap_threshold, 2**25)
    return bool(kept and libc.mallopt(trim_threshold, 2**31 - 1))
