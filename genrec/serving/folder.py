"""What can be known of a package's folder before any library of numbers is loaded."""

import json
import sys
from pathlib import Path

from genrec.processor import use_portable_instructions

MANIFEST = "package.json"
# in a folder of packages, the name of the one that answers
CURRENT = "current"


def resolved(folder: Path) -> Path:
    """The package of a folder: itself, or of a folder of packages the one that its file `current` names."""
    file = folder / CURRENT
    return folder / Path(file.read_text(encoding="utf-8").strip()).name if file.is_file() else folder


def compute_as(folder: Path) -> None:
    """Take the instructions with which a package was evaluated: its lists are then the evaluation's to the last bit.

    Where torch is loaded already, or the processor cannot, scores may differ in their last digit. A package that cannot
    be read is left to whoever opens it, who says what is wrong.
    """
    try:
        portable = json.loads((resolved(folder) / MANIFEST).read_text(encoding="utf-8"))["portable"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if portable is True and "torch" not in sys.modules:
        use_portable_instructions()
