"""The releases that are installed: the pinned ones, and none for which this page knows an advisory.

`make audit` asks the service that knows all advisories; tests must not need a network. See docs/decisions.
"""

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = {
    requirement.name.lower(): requirement
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for requirement in map(Requirement, group)
}
PINS = dict(re.findall(r"^([^#\s]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))

# package, the releases concerned, the advisory: of what the project itself asks for, as known on 2026-11-25
ADVISORIES = [
    ("pytorch-lightning", "==2.6.2", "GHSA-w37p-236h-pfx3: malicious release"),
    ("pytorch-lightning", "==2.6.3", "GHSA-w37p-236h-pfx3: malicious release"),
    ("torch", "<2.6", "CVE-2025-32434: torch.load(weights_only=True) runs code"),
    ("pyyaml", "<5.4", "CVE-2020-14343: code run by the full loader"),
    ("pyarrow", "<14.0.1", "CVE-2023-47248: code run by reading IPC and parquet files"),
    ("filelock", "<3.20.1", "CVE-2025-68146: a lock file is followed through a link"),
    ("filelock", "<3.20.3", "CVE-2026-22701: the same of SoftFileLock"),
    ("mlflow", "<3.10", "CVE-2026-2614: the server hands out any file"),
    ("mlflow", "<3.11", "CVE-2026-2651: artifacts of others can be overwritten"),
    ("mlflow", "<3.11", "CVE-2026-4137: temporary folders that all may write"),
]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_installed_is_what_is_pinned() -> None:
    pins = {normal(name): version for name, version in PINS.items()}
    installed = {normal(found.metadata["Name"]): found.version.partition("+")[0] for found in distributions()}
    assert len(pins.keys() & installed.keys()) > 100
    assert {name: version for name, version in installed.items() if pins.get(name, version) != version} == {}


@pytest.mark.parametrize(("package", "concerned", "advisory"), ADVISORIES)
def test_no_release_with_a_known_advisory_is_pinned_or_allowed(package: str, concerned: str, advisory: str) -> None:
    assert not SpecifierSet(concerned).contains(PINS[package]), advisory
    allowed = REQUIREMENTS[package].specifier
    (bound,) = SpecifierSet(concerned)
    if bound.operator == "==":
        assert not allowed.contains(bound.version), advisory
        return
    lowest = next(Version(each.version) for each in allowed if each.operator == ">=")
    assert lowest >= Version(bound.version), f"raise the lower bound of {package}: {advisory}"
