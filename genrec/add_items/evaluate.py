"""`python -m genrec.add_items.evaluate`: are items that came after training recommended to those who took them?

One item in twenty is drawn. The stages that train TIGER and parallel semantic IDs run without what was done with these
items, by the settings of params.yaml, in a folder of their own. Then the items are added as `python -m
genrec.add_items` does, and each user's last item is predicted, new ones included. The stage `report` shows what
reports/new_items.json says.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.add_items.encoding import Frozen, encode
from genrec.add_items.holdout import HeldOut
from genrec.add_items.recall import BOOSTS, K, measure
from genrec.codes.item_embeddings import load_embeddings
from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.data.words import WordModel
from genrec.errors import UserError
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.networks.generating.tiger import TigerNetwork
from genrec.params.build_digits import BuildDigits
from genrec.params.evaluate import Evaluate
from genrec.params.extract_embeddings import ExtractEmbeddings
from genrec.params.reading import PARAMS_FILE, read_section, read_seed, read_settings
from genrec.params.trainer import Trainer
from genrec.pipeline.command import keep_freed_memory, run_command
from genrec.report.new_items import WORDS, state_of
from genrec.sequences.histories import Histories
from genrec.serving.constrained import RanksItems, Scoring, Searching
from genrec.serving.new_items import NewItems, extended_network
from genrec.serving.packaging import Origin
from genrec.storage.checkpoint import load_arguments, load_model, network_arguments
from genrec.storage.output import read_parquet, write_metrics, write_parquet

PROJECT = Path(__file__).parents[2]
HISTORIES = Path("data/prepared/histories.npz")
ITEMS = Path("data/prepared/items.parquet")
EMBEDDINGS = Path("data/item_embeddings.npy")
MODELS = Path("data/models")
NEW_ITEMS = Path("reports/new_items.json")
SCRATCH = Path(".genrec")
STAGES = (
    "train_sasrec", "extract_embeddings", "train_rqvae", "build_code_table", "build_digits", "train_parallel",
    "train_tiger",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer the command line."""
    argparse.ArgumentParser(
        prog="python -m genrec.add_items.evaluate", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Its settings stand in params.yaml.",
    ).parse_args(arguments)  # fmt: skip
    run_command(_run)


def _run() -> None:
    settings, n_resamples = read_settings(), read_section(Evaluate).bootstrap_samples
    torch.set_num_threads(read_section(Trainer).num_threads)
    keep_freed_memory()
    held = HeldOut.draw(Histories.load(HISTORIES), read_parquet(ITEMS), read_seed())
    SCRATCH.mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="new_items.", dir=SCRATCH) as name:
        train_without(held, Path(name))
        for model, ranks in models(held, Path(name)).items():
            rows += [{"model": model, **row} for row in measure(ranks, held, model, n_resamples)]
    figures = {"k": K, "most_boost": BOOSTS[-1], "n_new_items": len(held.new), "n_known_items": held.n_known}
    write_metrics({"state": state_of([HISTORIES, ITEMS], settings), **figures, "rows": rows}, NEW_ITEMS)
    print(f"{NEW_ITEMS} is written; `dvc repro report` shows it")


def train_without(held: HeldOut, folder: Path) -> None:
    """Run the stages in a folder where there are no new items.

    Raises:
        UserError: a stage failed; what it said stands on stderr.
    """
    (folder / ITEMS).parent.mkdir(parents=True)
    held.learned.save(folder / HISTORIES)
    write_parquet(held.known, folder / ITEMS)
    shutil.copyfile(PARAMS_FILE, folder / PARAMS_FILE)
    found = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(found), "GENREC_TRACKING": "off"}
    for stage in STAGES:
        print(f"{stage}, without {len(held.new)} of {held.everything.n_items} items", flush=True)
        command = [sys.executable, "-m", f"stages.{stage}"]
        if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
            raise UserError(f"{stage} failed without the new items; its own message stands above")


def models(held: HeldOut, folder: Path) -> dict[str, RanksItems]:
    """What ranks known and new items: words alone, and the models that know an item by its codes.

    Args:
        folder: where the stages have run.
    """
    words = read_section(ExtractEmbeddings).words
    model = WordModel.fit(held.known, words.columns, words.dim, seed=0)
    parallel, tiger = (MODELS / f"{name}.ckpt" for name in ("parallel", "tiger"))
    frozen = Frozen(
        "data/prepared",
        _origin(),
        load_model(RqVaeNetwork, folder / MODELS / "rqvae.ckpt"),
        load_embeddings(folder / EMBEDDINGS, held.n_known),
        load_model(ParallelNetwork, folder / parallel, n_items=held.n_known).digits,
    )
    new, _ = encode(frozen, held.known, held.new, None)
    scoring = _extended(ParallelNetwork, folder / parallel, new)
    searching = _extended(TigerNetwork, folder / tiger, new)
    return {
        WORDS: likeness_of_words(model.known.vectors, model.vectors(held.new)),
        "parallel": Scoring(scoring.scores, scoring.max_history),
        "tiger": Searching(searching.generator, searching.max_history, read_section(Evaluate).n_beams),
    }


def likeness_of_words(known: NDArray[np.float32], new: NDArray[np.float32]) -> Scoring:
    """The cosine of an item's words with those of the last item of the history; nothing is trained.

    Args:
        known: (n_known + 1, dim) with padding.
        new: (n_new, dim).
    """
    words = torch.nn.functional.normalize(torch.from_numpy(np.concatenate([known, new])), dim=1)

    def score(history: Tensor) -> Tensor:
        last = (history != 0).sum(1, keepdim=True) - 1
        return words[history.gather(1, last)[:, 0]] @ words.T

    return Scoring(score, max_history=1)


def _origin() -> Origin:
    words, digits = read_section(ExtractEmbeddings).words, read_section(BuildDigits)
    return Origin(
        words.columns, words.dim, digits.embedding_digits, digits.word_digits, digits.code_num, digits.iterations,
        read_seed(),
    )  # fmt: skip


def _extended(kind: Any, checkpoint: Path, new: NewItems) -> Any:
    return extended_network(load_model(kind, checkpoint), network_arguments(kind, load_arguments(checkpoint)), new)


if __name__ == "__main__":
    main()
