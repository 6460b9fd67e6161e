"""Lightning, imported without what torchmetrics draws and hears with: the one `import pytorch_lightning`.

Lightning imports torchmetrics, which imports matplotlib and scipy.signal to draw its metrics and to judge sounds: a
third of the seconds in which a training stage starts. Both stay away while Lightning is imported, and nothing but the
start changes: who imports them later gets them, and torchmetrics draws. Where somebody has imported Lightning before,
or where its inside has changed, the start is slow and all else is the same.
"""

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SLOW = ("matplotlib", "scipy")


class _Pyplot:
    """matplotlib.pyplot, imported with the first figure."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("matplotlib.pyplot"), name)


@contextmanager
def _not_available(*packages: str) -> Iterator[None]:
    """Let Lightning's and torchmetrics' questions whether a package is there be answered with no, until the end."""
    asked = _who_is_asked()
    if asked is None:
        yield
        return
    hidden = set(packages)
    is_there, is_met = asked.package_available, asked.RequirementCache.__bool__

    def package_available(package_name: str) -> bool:
        return package_name not in hidden and bool(is_there(package_name))

    def is_requirement_met(requirement: Any) -> bool:
        # such as "scipy" or "scipy>=1.8.0"
        return re.split(r"\W", requirement.requirement or "")[0] not in hidden and bool(is_met(requirement))

    asked.package_available, asked.RequirementCache.__bool__ = package_available, is_requirement_met
    try:
        yield
    finally:
        # whoever took the function meanwhile keeps it: from now on it answers as the one that it stands for
        hidden.clear()
        asked.package_available, asked.RequirementCache.__bool__ = is_there, is_met


def _who_is_asked() -> Any:
    """The module in which both ask whether a package is there; None if it is no longer what it was in Lightning 2.6."""
    try:
        module = importlib.import_module("lightning_utilities.core.imports")
    except ModuleNotFoundError:
        return None
    is_known = hasattr(module, "package_available") and hasattr(module, "RequirementCache")
    return module if is_known else None


def _draw_later(plot: Any) -> None:
    """Give torchmetrics' file of figures, where it did without it, the module that it draws with."""
    if plot is not None and not hasattr(plot, "plt"):
        plot.plt = _Pyplot()


with _not_available(*SLOW):
    import pytorch_lightning as pl
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import TorchCheckpointIO
    from pytorch_lightning import seed_everything
    from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
    from pytorch_lightning.loggers import Logger, TensorBoardLogger
    from pytorch_lightning.plugins.precision import MixedPrecision, Precision
    from pytorch_lightning.strategies import DDPStrategy
    from pytorch_lightning.utilities import rank_zero_only
    from pytorch_lightning.utilities.exceptions import SIGTERMException
_draw_later(sys.modules.get("torchmetrics.utilities.plot"))

__all__ = [
    "Callback",
    "DDPStrategy",
    "EarlyStopping",
    "Fabric",
    "Logger",
    "MixedPrecision",
    "ModelCheckpoint",
    "Precision",
    "SIGTERMException",
    "TensorBoardLogger",
    "TorchCheckpointIO",
    "pl",
    "rank_zero_only",
    "seed_everything",
]
