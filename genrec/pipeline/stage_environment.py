"""What a stage's process is told before it loads a library of numbers: `trainer.portable`, `trainer.num_threads`."""

import os
import sys

from genrec.errors import UserError
from genrec.processor import use_portable_instructions, variables_of_threads


def begin_stage(without_trainer: tuple[str, ...]) -> None:
    """Set the environment of this process, which runs a stage and has loaded none of the libraries.

    A mistake in params.yaml is left to the stage, which reads it too and says what is wrong.

    Args:
        without_trainer: the stages that do not depend on `trainer`; one thread and portable is what they compute with.
    """
    portable, threads = True, 1
    if _module() not in {f"stages.{name}" for name in without_trainer}:
        # half a second of imports, which the stage that publishes must not wait for
        from genrec.params.reading import read_section
        from genrec.params.trainer import Trainer

        try:
            trainer = read_section(Trainer)
        except UserError:
            return
        portable, threads = trainer.portable, trainer.num_threads
    if portable:
        use_portable_instructions()
    os.environ.update(variables_of_threads(threads))


def _module() -> str:
    """What `python -m` was told to run, which it does not yet hand to the package that it imports first."""
    return sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv[:-1] else ""
