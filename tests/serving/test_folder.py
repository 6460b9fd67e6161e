"""Who answers from a package computes with the instructions with which it was evaluated."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genrec.processor import PORTABLE, can_be_portable
from genrec.serving.folder import compute_as

ASK = """
import os, sys
sys.argv = ["-m", *sys.argv[1:]]  # as it stands while `python -m genrec.recommend` imports the package
import genrec.recommend
print(os.environ["MKL_CBWR"], os.environ.get("MKL_NUM_THREADS"), sorted({"numpy", "torch"} & sys.modules.keys()))
"""


def package(folder: Path, content: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps(content))
    return folder


def said(*arguments: str, cwd: Path) -> str:
    environment = {
        **os.environ,
        "MKL_CBWR": "AVX2",
        "MKL_NUM_THREADS": "2",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    asked = subprocess.run(
        [sys.executable, "-c", ASK, *arguments], cwd=cwd, env=environment, check=True, capture_output=True, text=True
    )
    return asked.stdout.strip()


@pytest.mark.skipif(not can_be_portable(), reason="no x86-64 with AVX2")
def test_a_command_takes_those_of_its_package_before_any_library_of_numbers_is_loaded(tmp_path):
    package(tmp_path / "data" / "package", {"portable": True})
    package(tmp_path / "own", {"portable": False})
    package(tmp_path / "versions" / "b", {"portable": True})
    (tmp_path / "versions" / "current").write_text("b\n")
    portable, own = f"{PORTABLE['MKL_CBWR']} None []", "AVX2 2 []"
    assert said("--user", "1", cwd=tmp_path) == portable
    assert said("--user", "1", "--package", "own", cwd=tmp_path) == own
    assert said("--package=versions", cwd=tmp_path) == portable
    assert said("--package", cwd=tmp_path) == portable


@pytest.mark.parametrize("content", [{}, [], {"portable": "yes"}, {"portable": False}])
def test_a_package_that_says_nothing_changes_nothing(tmp_path, monkeypatch, content):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    before = dict(os.environ)
    compute_as(package(tmp_path / "package", content))
    compute_as(tmp_path / "absent")
    assert dict(os.environ) == before


def test_a_process_that_has_torch_keeps_its_own(tmp_path):
    assert "torch" in sys.modules or __import__("torch")
    before = dict(os.environ)
    compute_as(package(tmp_path / "package", {"portable": True}))
    assert dict(os.environ) == before
