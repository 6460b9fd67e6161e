"""Lightning starts without what draws and hears; afterwards all of it is there."""

import importlib
import subprocess
import sys
from typing import Any

import pytest

from genrec.training import lightning


def in_another_process(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_neither_figures_nor_signals_are_imported_and_both_work_afterwards() -> None:
    output = in_another_process(
        "import sys; from genrec.training.lightning import pl\n"
        "print({'matplotlib', 'scipy.signal'} & set(sys.modules))\n"
        "import torchmetrics; metric = torchmetrics.MeanMetric(); metric.update(2.0)\n"
        "figure, axes = metric.plot(); print(type(figure).__module__, float(metric.compute()))\n"
        "import scipy.signal, matplotlib.pyplot; print(scipy.signal.windows.hann(3)[1])\n"
        "from lightning_utilities.core.imports import RequirementCache, package_available\n"
        "print(bool(RequirementCache('matplotlib>=3')), package_available('scipy'))"
    )
    assert output.splitlines() == ["set()", "matplotlib.figure 2.0", "1.0", "True True"]


@pytest.mark.parametrize("package", lightning.SLOW)
def test_a_package_is_hidden_until_the_end_and_for_nobody_longer(package: str) -> None:
    asked = importlib.import_module("lightning_utilities.core.imports")
    before = asked.package_available, asked.RequirementCache.__bool__
    with lightning._not_available(package):
        # bound by name, as torchmetrics does
        is_there, requirement = asked.package_available, asked.RequirementCache(f"{package}>=1.0")
        assert not is_there(package)
        assert not requirement
        assert is_there("torch")
        assert asked.RequirementCache("torch>=2.0")
    assert is_there(package)
    assert requirement
    assert (asked.package_available, asked.RequirementCache.__bool__) == before


def test_an_error_within_hides_nothing_for_longer() -> None:
    asked = importlib.import_module("lightning_utilities.core.imports")
    with pytest.raises(ImportError, match="broken"), lightning._not_available("scipy"):
        raise ImportError("broken")
    assert asked.package_available("scipy")


@pytest.mark.parametrize("change", ["moved", "renamed"])
def test_a_lightning_that_asks_elsewhere_only_starts_slowly(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    name = "lightning_utilities.core.imports"
    if change == "moved":
        stand_in: Any = None  # Python then says that there is no such module
    else:
        stand_in = importlib.import_module("types").ModuleType(name)
    monkeypatch.setitem(sys.modules, name, stand_in)
    with lightning._not_available("scipy"):
        import scipy.signal

        assert scipy.signal.windows.hann(3)[1] == 1


def test_a_module_of_figures_that_has_what_it_draws_with_keeps_it() -> None:
    types = importlib.import_module("types")
    plot = types.SimpleNamespace(plt="its own")
    lightning._draw_later(plot)
    lightning._draw_later(None)
    assert plot.plt == "its own"
