"""How well items that came after training are recommended, as `python -m genrec.add_items.evaluate` measured it.

That is no stage: it trains models a second time. Its file says of which data and settings its figures are, and where
these are not the present ones, no figure is shown.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genrec.generators.titles import model_titles
from genrec.layers.processes import trains_alone
from genrec.report.findings import Tree

COMMAND = "python -m genrec.add_items.evaluate"
WORDS = "words"
# those that the figures follow from
SECTIONS = (
    "seed", "train_sasrec", "extract_embeddings", "model", "train_rqvae", "train_tiger", "build_digits",
    "train_parallel", "evaluate", "trainer",
)  # fmt: skip


def state_of(files: Sequence[Path], settings: Tree) -> str:
    """What figures belong to: the SHA-256 of the prepared data and of the settings that they follow from.

    Args:
        settings: the sections of params.yaml.
    """
    trainer = settings["trainer"]
    if trains_alone(trainer["portable"], trainer["gpus"]):
        trainer = {**trainer, "devices": 1}  # however many there are, the figures are those of one process
    followed = {name: settings[name] for name in SECTIONS} | {"trainer": trainer}
    found = hashlib.sha256(json.dumps(followed, sort_keys=True).encode())
    for file in files:
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def of_state(figures: Tree | None, state: str) -> Tree | None:
    """The figures if they are of this state, else None."""
    return figures if figures is not None and figures["state"] == state else None


def new_items_section(figures: Tree | None) -> dict[str, Any]:
    """A row a model and boost, its cells (recall, low, high), None where there was no such target."""
    if figures is None:
        return {"rows": [], "command": COMMAND}
    rows = figures["rows"]
    return {
        "rows": [{"title": title_of(row["model"]), **row} for row in rows],
        "command": COMMAND,
        "k": figures["k"],
        "said": what_was_done(figures),
    }


def new_items_text(figures: Tree | None) -> str:
    """The same in Markdown, without the last end of line."""
    if figures is None:
        return f"## New items\n\nNot measured on these data with these settings; `{COMMAND}` does."
    k = figures["k"]
    header = ["model", "boost", f"recall@{k}, new targets", f"recall@{k}, known targets"]
    rows = [
        [title_of(row["model"]), f"{row['boost']:g}", *(_cell(row[name]) for name in ("new", "known"))]
        for row in figures["rows"]
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *rows])
    return f"## New items\n\n{what_was_done(figures)}\n\n{table}"


def what_was_done(figures: Tree) -> str:
    """How the figures were made, in a few sentences."""
    first, n_new = figures["rows"][0], figures["n_new_items"]
    return (
        f"{n_new:,} of {n_new + figures['n_known_items']:,} items were drawn and left out of training with all that "
        "was done with them, then added by what is written about them, without training. All items compete on the "
        f"test, the history excluded; {first['n_new']:,} users' target is new, {first['n_known']:,} users' is not. The "
        "boost is added to the logarithm of new items' probability (of words: to the cosine); validation chose it "
        f"among those up to {figures['most_boost']:g}, by the harmonic mean of both recalls. A model has one row where "
        "none of them was better than no boost. In brackets 95 % intervals over users."
    )


def title_of(model: str) -> str:
    """What people call a row's model."""
    return "likeness of words to the last item, no training" if model == WORDS else model_titles()[model]


def _cell(ends: Sequence[float] | None) -> str:
    return "" if ends is None else "{:.4f} [{:.4f}, {:.4f}]".format(*ends)
