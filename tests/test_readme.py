"""What the README says is what the project does: figures, settings, targets, folders."""

import json
import re
import subprocess
from pathlib import Path
from statistics import fmean, stdev
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


SEEDS = 5
FARTHEST = (SEEDS - 1) / SEEDS**0.5  # standard deviations that one of so many values can be from their mean
ROUNDING = 0.0005 * (1 + FARTHEST)  # of the means and the deviations, which have three digits


def in_table(model: str) -> list[tuple[float, float]]:
    """Means and standard deviations of a model's line in the README, which `genrec.pipeline.comparison` prints."""
    title = re.escape(model_titles()[model])
    (found,) = re.findall(rf"^\| {title} \| {SEEDS} \| (.+) \|$", README, re.MULTILINE)
    cells = [cell.split(" ± ") for cell in found.split(" | ")]
    return [(float(mean), float(deviation)) for mean, deviation in cells]


def of_one_seed(results: dict[str, Any], model: str) -> list[float]:
    """The same figures of the default run."""
    values = results[model]["values"]["test"]
    return [values[protocol][f"{name}_at_10"] for protocol in ("excluded", "kept") for name in ("recall", "ndcg")]


def is_one_of(seeds: list[tuple[float, float]], values: list[float]) -> bool:
    """Whether values can be those of one of the seeds."""
    return all(
        abs(value - mean) <= FARTHEST * deviation + ROUNDING
        for value, (mean, deviation) in zip(values, seeds, strict=True)
    )


@pytest.mark.parametrize("model", list(RESULTS))
def test_the_table_is_of_seeds_of_which_the_default_run_is_one(model):
    shown = in_table(model)
    assert any(is_one_of(shown, of_one_seed(results, model)) for results in (RESULTS, COMMITTED)), (
        f"{model} has {of_one_seed(RESULTS, model)}: `make seeds`, and put into the README what "
        "`python -m genrec.pipeline.comparison` prints"
    )


def test_the_farthest_of_five_seeds_is_one_of_them_and_no_farther_value_is():
    values = [0.1, 0.1, 0.1, 0.1, 0.2]
    of_all = [(fmean(values), stdev(values))]
    assert is_one_of(of_all, [0.2])
    assert not is_one_of(of_all, [0.203])


def test_the_table_names_no_model_that_the_default_run_lacks():
    titles = re.findall(rf"^\| ([^|]+) \| {SEEDS} \|", README, re.MULTILINE)
    assert sorted(titles) == sorted(model_titles()[model] for model in RESULTS)


AMAZON = {"Beauty": "Beauty (Amazon 2014)", "Scientific": "Scientific (Amazon 2018)",
          "Instruments": "Instruments (Amazon 2018)"}  # fmt: skip
IN_QUALITY = {"popularity": "popularity", "item co-occurrence": "co-occurrence", "memory of transitions": "transitions",
              "SASRec": "sasrec", "SASRec with words": "sasrec+words", "two towers": "two towers", "TIGER": "tiger",
              "ETEGRec": "etegrec", "parallel semantic IDs": "parallel"}  # fmt: skip
NO_WORDS = {**IN_QUALITY, "parallel semantic IDs": "parallel of sasrec"}


def rows_of(table: str) -> dict[str, list[str]]:
    """The cells of a table's lines by the first of them, without what stands there in brackets."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {re.sub(r" \([0-9., ]+\)$", "", first): cells for first, *cells in lines}


def test_the_table_of_amazons_sets_is_that_of_the_page_of_quality():
    """NDCG@10 with the history excluded, alone, with the memory, and ranked."""
    (table,) = re.findall(r"^\| \| Beauty .+\n(?:\|.+\n)+", README, re.MULTILINE)
    shown = rows_of(table)
    page = (ROOT / "docs/quality.md").read_text(encoding="utf-8")
    for place, (name, section) in enumerate(AMAZON.items()):
        (of_section,) = re.findall(
            rf"^## {re.escape(section)}\n(?:.*\n)*?\| model .+\n((?:\|.+\n)+)", page, re.MULTILINE
        )
        rows = rows_of(of_section)
        assert shown[""][place] == name
        for title, row in (NO_WORDS if name == "Instruments" else IN_QUALITY).items():
            of_model = [rows[row + suffix] for suffix in ("", " + memory", " + ranker") if row + suffix in rows]
            figures = [cells[3].split(" / ")[1] for cells in of_model]
            assert shown[title][place] == (" / ".join(figures) or "-"), f"{title}, {name}"
    assert set(shown) == {"", "---", *IN_QUALITY}


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
