"""Items that no training has seen, added afterwards, by more models and larger data than the project's own command.

    python -m benchmarks.cold_items DATA/prepared

DATA/prepared is what the stage `prepare_data` writes. Items are held out and figures made as `python -m
genrec.add_items.evaluate` does, which trains the models of params.yaml; here they are trained by settings of their own,
and know items by their words alone.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrec.add_items.evaluate import likeness_of_words
from genrec.add_items.holdout import HeldOut
from genrec.add_items.recall import K, measure
from genrec.codes.code_table import build_code_table
from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.data.words import WordModel
from genrec.digits.table import digits_of, fit_quantizers
from genrec.models.parallel import Parallel
from genrec.models.sasrec import SASRec
from genrec.models.tiger import Tiger
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.networks.generating.tiger import TigerNetwork
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.pipeline.command import keep_freed_memory
from genrec.sequences.batches import segment_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.serving.constrained import RanksItems, Scoring, Searching
from genrec.serving.new_items import NewItems, extended_network
from genrec.storage.checkpoint import network_arguments
from genrec.storage.output import read_parquet
from genrec.training.base import BaseTrainer
from genrec.training.config import RankingConfig
from genrec.training.curves import CurveLogger
from genrec.training.precision import resolve_precision

MAX_HISTORY, RESAMPLES = 50, 1000
COLUMNS, WORD_DIM = ("title", "brand", "brand", "categories"), 128
DIGITS, DIGIT_CODES, CODES, LEVELS, ITERATIONS = 32, 256, 256, 3, 12
VALIDATED_EVERY = 4  # epochs
N_BEAMS, SEARCHED = 50, 1000  # users with known targets for whom a search is run; all whose target is new


@dataclass(frozen=True)
class Split:
    """Items held out, with what is written about all of them.

    Attributes:
        words, new_words: (n_known + 1, dim) with padding, and (n_new, dim).
    """

    held: HeldOut
    words: np.ndarray
    new_words: np.ndarray

    @property
    def n_known(self) -> int:
        return self.held.n_known

    @property
    def n_new(self) -> int:
        return len(self.new_words)

    @classmethod
    def of(cls, held: HeldOut) -> "Split":
        model = WordModel.fit(held.known, COLUMNS, WORD_DIM, seed=0)
        return cls(held, model.known.vectors, model.vectors(held.new))


def train(model: Any, split: Split, epochs: int, seed: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        config = RankingConfig(
            experiment_name="cold_items", max_epochs=epochs, early_stopping_patience=0, gpus=0, random_seed=seed,
            checkpoint_dir=folder, monitor="val_ndcg_at_10", val_check_interval=VALIDATED_EVERY,
            precision=resolve_precision("auto", 0, portable=False), progress_bar=False,
        )  # fmt: skip
        BaseTrainer(model, config, CurveLogger()).train(
            segment_loader(split.held.learned, MAX_HISTORY, 128, seed),
            window_loader(split.held.learned, "validation", MAX_HISTORY, 512, seed),
        )
    return model.float().eval()


def network_of(model: Any, kind: type) -> tuple[Any, dict[str, Any]]:
    """A trained module's network and the arguments of its constructor."""
    arguments = network_arguments(kind, dict(model.hparams))
    network = kind(**arguments)
    network.load_state_dict(model.state_dict(), strict=False)
    return network.eval(), arguments


def parallel(split: Split, seed: int) -> RanksItems:
    quantizers = fit_quantizers([(split.words, DIGITS)], DIGIT_CODES, ITERATIONS, seed)
    known, new = (digits_of([words], quantizers) for words in (split.words[1:], split.new_words))
    torch.manual_seed(seed)
    model = Parallel(
        split.n_known, DIGITS, DIGIT_CODES, embedding_dim=128, max_history=MAX_HISTORY, num_negatives=2048,
        learning_rate=1e-3, schedule="cosine", warmup_steps=100, learns_repeats=True,
    )  # fmt: skip
    model.set_digits(torch.cat([known.new_full((1, DIGITS), -1), known]))
    network, arguments = network_of(train(model, split, 16, seed), ParallelNetwork)
    extended: Any = extended_network(
        network, arguments, NewItems(torch.zeros(split.n_new, 1), torch.zeros(split.n_new, 1), new)
    )
    return Scoring(extended.scores, MAX_HISTORY)


def sasrec_with_words(split: Split, seed: int) -> RanksItems:
    """A new item is the projection of its words, without the vector of its own that known ones have beside it."""
    torch.manual_seed(seed)
    model = SASRec(
        split.n_known, embedding_dim=128, max_history=MAX_HISTORY, dropout=0.5, loss="sampled_softmax",
        num_negatives=2048, learning_rate=1e-3, schedule="cosine", warmup_steps=100, input_norm=True,
        learns_repeats=True, content_dim=WORD_DIM,
    )  # fmt: skip
    model.set_content(torch.from_numpy(split.words))
    network, arguments = network_of(train(model, split, 12, seed), SASRecNetwork)
    state = network.state_dict()
    for name, rows in (
        ("content", torch.from_numpy(split.new_words)),
        ("item_embedding.weight", torch.zeros(split.n_new, 128)),
    ):
        state[name] = torch.cat([state[name], rows])
    extended = SASRecNetwork(**{**arguments, "n_items": split.n_known + split.n_new})
    extended.load_state_dict(state)
    extended.eval()
    return Scoring(extended.scores, MAX_HISTORY)


def tiger(split: Split, seed: int) -> RanksItems:
    tokenizer = RqVaeNetwork(WORD_DIM, None, num_embeddings=CODES, num_levels=LEVELS)
    points = torch.from_numpy(split.words[1:])
    tokenizer.initialize_codebooks(points, ITERATIONS, seed)
    codes, new_codes = (tokenizer.semantic_codes(each) for each in (points, torch.from_numpy(split.new_words)))
    length = LEVELS + 1
    torch.manual_seed(seed)
    model = Tiger(
        1 + length * CODES, 128, 4, 2, 512, 0.2, MAX_HISTORY * length, 1e-3, code_length=length, n_items=split.n_known,
        itemwise=True, learns_repeats=True, schedule="cosine", warmup_steps=100,
    )  # fmt: skip
    model.set_code_table(build_code_table(codes, CODES))
    network, arguments = network_of(train(model, split, 16, seed), TigerNetwork)
    extended: Any = extended_network(network, arguments, NewItems(torch.zeros(split.n_new, 1), new_codes, None))
    return Searching(extended.generator, MAX_HISTORY, N_BEAMS)


def words_alone(split: Split, seed: int) -> RanksItems:
    return likeness_of_words(split.words, split.new_words)


MODELS: dict[str, Callable[[Split, int], RanksItems]] = {
    "likeness of words to the last item": words_alone,
    "parallel, digits of words": parallel,
    "SASRec with words": sasrec_with_words,
    "TIGER, codes of words": tiger,
}


def lines(name: str, split: Split, seed: int) -> Iterator[str]:
    started = time.process_time()
    model = MODELS[name](split, seed)
    rows = measure(model, split.held, name, RESAMPLES, SEARCHED if name.startswith("TIGER") else None)
    minutes = (time.process_time() - started) / 60
    for row in rows:
        new, known = ("{:.3f} [{:.3f}, {:.3f}]".format(*row[each]) for each in ("new", "known"))
        yield f"| {name} | {row['boost']:g} | {new} | {known} | {row['n_new']}, {row['n_known']} | {minutes:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="the folder that prepare_data writes")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    histories = Histories.load(arguments.prepared / "histories.npz")
    held = HeldOut.draw(histories, read_parquet(arguments.prepared / "items.parquet"), arguments.seed)
    split = Split.of(held)
    print(f"{split.n_new} of {histories.n_items} items are new, {held.learned.n_users} users are learned from")
    print(f"| model | boost | recall@{K}, new targets | recall@{K}, known targets | users | CPU minutes |")
    print("|---|---|---|---|---|---|")
    for name in arguments.models:
        for line in lines(name, split, arguments.seed):
            print(line, flush=True)


if __name__ == "__main__":
    main()
