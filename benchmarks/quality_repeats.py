"""What it is worth that models learn what a repeat is worth, where people repeat:

    python -m benchmarks.quality_repeats DATA/prepared --set scientific --out data/quality/repeats --share 0.3

Each model of `benchmarks.quality` is trained with and without, and the test measured with the history kept. People who
come back are made of those of DATA/prepared, which the stage `prepare_data` writes: after each interaction they take
something again with the probability of the share, and once more with the same, the item of a steps ago with 2^-a.
Validation chooses the epoch with the history kept, too, of all epochs. Runs that are there are not made again.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.quality import SETS, VARIANTS, Experiment
from benchmarks.quality_table import Row, differences, figures, read_rows
from genrec.pipeline.command import keep_freed_memory
from genrec.sequences.histories import Histories

MODELS = ("sasrec", "parallel", "tiger")
LEARNED = {"repeats learned": {}, "not learned": {"learns_repeats": False}}
CHOOSES = "val_ndcg_at_10"  # the history kept
# no training ends early: one that learns no repeats begins by putting the last item first, and finds better ways late
PATIENCE = 1_000


def with_repeats(histories: Histories, share: float, seed: int) -> Histories:
    """Histories of which a share are repeats, drawn by recency; times are dropped, as repeats have none.

    Args:
        share: of all interactions, expected; 0 leaves them as they are.
        seed: of the places, and of what is taken again.
    """
    random = np.random.default_rng(seed)
    n_added = random.geometric(1 - share, len(histories.items)) - 1
    first = np.repeat(np.cumsum(1 + n_added) - 1 - n_added, 1 + n_added)
    places = np.arange(len(first))
    offsets = np.concatenate([[0], np.cumsum(1 + n_added)])[histories.offsets]
    items = np.repeat(histories.items, 1 + n_added)
    repeats = places[places > first]
    before = repeats - np.repeat(offsets[:-1], np.diff(offsets))[repeats]  # interactions of the user
    for place, back in zip(repeats, np.minimum(random.geometric(0.5, len(repeats)), before), strict=True):
        items[place] = items[place - back]  # which may be a repeat itself
    return Histories(items, offsets, histories.n_items)


def share_of_repeats(histories: Histories) -> float:
    """The share of the test's targets that are in their history."""
    examples = histories.examples("test")
    return float((histories.padded(examples) == histories.targets(examples)[:, None]).any(1).mean())


def folder_of(out: Path, how: str) -> Path:
    return out / how.replace(" ", "-")


def named_rows(out: Path) -> dict[str, Row]:
    """The models of both folders, which say by their names which they are of."""
    rows = {}
    for how in LEARNED:
        for model, row in read_rows(folder_of(out, how)).items():
            if model in MODELS:
                name = f"{model}, {how}"
                rows[name] = replace(row, name=name)
    return rows


def table(out: Path) -> Iterator[str]:
    """The figures of each model, and what learning repeats adds."""
    rows = named_rows(out)
    users = np.arange(len(next(iter(rows.values())).per_target("test/kept/ndcg_at_10")))
    yield from figures(rows, users)
    yield ""
    learned, not_learned = LEARNED
    yield from differences(rows, [(f"{model}, {learned}", f"{model}, {not_learned}") for model in MODELS], users)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="the folder that prepare_data writes")
    parser.add_argument("--set", choices=SETS, required=True, dest="name", help="whose settings to take")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.3, help="of repeats among interactions, from 0 to below 1")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    if not 0 <= arguments.share < 1:
        parser.error(f"--share is {arguments.share:g}; it must be at least 0 and below 1")
    settings = replace(SETS[arguments.name], monitor=CHOOSES)
    if not all(VARIANTS[model].is_possible(settings) for model in MODELS):
        parser.error(f"{arguments.name} has no words of items, which parallel needs; take a set that has them")
    torch.set_num_threads(1)
    keep_freed_memory()
    for how, overrides in LEARNED.items():
        experiment = Experiment.of(
            arguments.prepared, settings, folder_of(arguments.out, how), overrides={**overrides, "patience": PATIENCE}
        )
        if experiment.histories.cuts is not None:
            parser.error(f"{arguments.prepared} is split in time, and repeats have none; prepare it with leave_one_out")
        experiment.histories = with_repeats(experiment.histories, arguments.share, seed=0)
        for seed in arguments.seeds:
            for model in MODELS:
                experiment.run(model, seed)
    print(f"{share_of_repeats(experiment.histories):.1%} of the test's targets are repeats\n")
    print("\n".join(table(arguments.out)), flush=True)


if __name__ == "__main__":
    main()
