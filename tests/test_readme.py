"""What the README says is what the project does: figures, settings, targets, folders."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from genrec.generators.titles import model_titles
from genrec.params.reading import flatten, read_params

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def committed(name: str) -> str:
    """A file's text as it was committed: another machine's own `make repro` may differ in the last digits."""
    shown = subprocess.run(
        ["git", "show", f"HEAD:./{name}"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False
    )
    return shown.stdout if shown.returncode == 0 else (ROOT / name).read_text(encoding="utf-8")


RESULTS = json.loads((ROOT / "reports/results.json").read_text(encoding="utf-8"))
COMMITTED = json.loads(committed("reports/results.json"))


def row(results: dict[str, Any], model: str) -> str:
    """A model's line of the README's table, from what the default run measured."""
    of_test = {name: tree["test"] for name, tree in results[model].items() if "test" in tree}
    cells = [model_titles()[model]]
    for protocol in ("excluded", "kept"):
        low, high = of_test["intervals"][protocol]["recall_at_10"]
        values = of_test["values"][protocol]
        cells += [f"{values['recall_at_10']:.3f} [{low:.3f}, {high:.3f}]", f"{values['ndcg_at_10']:.3f}"]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("model", list(RESULTS))
def test_the_table_shows_what_the_default_run_measured(model):
    rows = [row(results, model) for results in (RESULTS, COMMITTED)]
    assert any(each in README for each in rows), f"put this line into the README's table: {rows[0]}"


def test_every_setting_named_exists():
    known = flatten(read_params(ROOT / "params.yaml"))
    named = set(re.findall(r"-S '?([a-z_]+\.[a-z_.]+)=", README))
    assert len(named) > 3
    assert named <= set(known)


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)", README))
    assert len(named) > 3
    assert named <= targets


def test_every_folder_and_picture_named_exists():
    named = re.findall(r"^\| `([\w./]+(?:/|\.yaml))` \|", README, re.MULTILINE)
    named += re.findall(r"!\[[^]]*\]\((\S+)\)", README)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_path_that_dvc_cannot_queue_runs_in_is_named_with_the_way_out():
    (row,) = [line for line in README.splitlines() if line.startswith("|") and "has a `#`" in line]
    assert "`dvc exp run --temp` or `--queue` fails" in row
    assert "move the project" in row
