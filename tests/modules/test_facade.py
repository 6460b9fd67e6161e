"""`genrec.modules` for users: complete, sorted, and free of charge until a name is asked for."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import genrec.modules

FOLDER = Path(genrec.modules.__file__).parent
FILES = {file.stem for file in FOLDER.glob("*.py")} - {"__init__"}
# the blocks that `SemanticIdGenerator` is made of
INTERNAL = {"t5"}


def public_names(file: str) -> set[str]:
    """The classes and functions that a file defines, without those that bear its name."""
    tree = ast.parse((FOLDER / f"{file}.py").read_text(encoding="utf-8"))
    definitions = (node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))
    return {name for name in definitions if not name.startswith("_") and name not in FILES}


def test_the_public_names_are_sorted():
    assert genrec.modules.__all__ == sorted(genrec.modules.__all__)


def test_every_public_name_of_every_file_is_there_and_no_other():
    assert set(genrec.modules.__all__) == {name for file in FILES - INTERNAL for name in public_names(file)}


@pytest.mark.parametrize("name", genrec.modules.__all__)
def test_a_name_is_the_one_that_its_module_defines(name):
    value = getattr(genrec.modules, name)
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert Path(inspect.getfile(value)).parent == FOLDER


def test_a_name_that_is_a_module_stays_one_whatever_was_imported_before():
    assert not FILES & set(genrec.modules.__all__)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match="no attribute 'Transformer'; it has .*TransformerEncoder"):
        _ = genrec.modules.Transformer


def test_dir_lists_the_names():
    assert dir(genrec.modules) == genrec.modules.__all__


def test_the_import_loads_nothing():
    code = "import genrec.modules, sys; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]
