"""`genrec.modules` for users: complete, and no name of it is that of a module; test_public_names.py does the rest."""

import ast
from pathlib import Path

import genrec.modules

FOLDER = Path(genrec.modules.__file__).parent
FILES = {file.stem for file in FOLDER.glob("*.py")} - {"__init__"}
# what `SemanticIdGenerator` and its search are made of
INTERNAL = {"attend_to_own_past", "t5"}


def public_names(file: str) -> set[str]:
    """The classes and functions that a file defines, without those that bear its name."""
    tree = ast.parse((FOLDER / f"{file}.py").read_text(encoding="utf-8"))
    definitions = (node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))
    return {name for name in definitions if not name.startswith("_") and name not in FILES | INTERNAL}


def test_every_public_name_of_every_file_is_there_and_no_other():
    assert set(genrec.modules.__all__) == {name for file in FILES - INTERNAL for name in public_names(file)}


def test_a_name_that_is_a_module_stays_one_whatever_was_imported_before():
    assert not FILES & set(genrec.modules.__all__)
