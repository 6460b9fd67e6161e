"""`genrec.modules` for users: its names and the modules that own them; test_public_names.py does the rest."""

from importlib.util import find_spec

import genrec.modules


def test_no_name_is_that_of_a_module_of_the_package():
    # a module would take the name's place as soon as it is imported
    assert not [name for name in genrec.modules.__all__ if find_spec(f"genrec.modules.{name}")]


def test_every_name_is_one_that_its_module_defines():
    for name, home in genrec.modules._HOMES.items():
        value = getattr(genrec.modules, name)
        assert value.__module__ == f"genrec.{home}", name
