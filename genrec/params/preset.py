"""Presets: small overlays on params.yaml, put into it by one command, `python -m genrec.params NAME`."""

import argparse
import itertools
from pathlib import Path
from typing import Any

from genrec.errors import UserError
from genrec.params.reading import PARAMS_FILE, check_params, read_yaml
from genrec.pipeline.command import run_command

PRESETS = Path(__file__).parents[1] / "presets"


def apply_preset(name: str, path: str | None, params_file: Path = PARAMS_FILE, items: str | None = None) -> None:
    """Put a preset's values and header into params.yaml, keeping its other comments.

    Args:
        path: replaces the preset's own data path.
        items: replaces its path of the item table. With a path alone there is none, and so there are no words of
            columns by name.

    Raises:
        UserError: no such preset, or the result is not a valid params.yaml.
    """
    from ruamel.yaml import YAML  # keeps comments, which pyyaml does not

    presets = {file.stem: file for file in sorted(PRESETS.glob("*.yaml"))}
    if name not in presets:
        raise UserError(f"no preset named {name!r}; known: {', '.join(presets)}")
    editor = YAML()
    content = editor.load(params_file)
    overlay(content, read_yaml(presets[name]))
    if path is not None:
        content["fetch_data"] |= {"path": path, "items_path": items or ""}
        if items is None:
            content["extract_embeddings"]["words"]["columns"] = []
    check_params(content, f"preset {name}")
    content.yaml_set_start_comment(_header(presets[name]))
    editor.dump(content, params_file)


def _header(file: Path) -> str:
    """What the first lines of a file say: what it trains, how long, what to expect."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines)


def overlay(content: Any, values: dict[str, Any]) -> None:
    """Put values in place of those that the content has, section by section."""
    for key, value in values.items():
        if isinstance(value, dict):
            overlay(content.setdefault(key, {}), value)
        else:
            content[key] = value


def main() -> None:
    parser = argparse.ArgumentParser(description="Put a preset's values into params.yaml; undo with `git checkout`.")
    parser.add_argument("preset", help="the preset's name, such as beauty")
    parser.add_argument("--path", help="the data file, in place of the preset's own fetch_data.path")
    parser.add_argument("--items", help="beside --path: the item table; without it the models are given no words")
    arguments = parser.parse_args()
    if arguments.items is not None and arguments.path is None:
        parser.error("--items needs --path: the table of these data")
    run_command(lambda: apply_preset(arguments.preset, arguments.path, items=arguments.items))
