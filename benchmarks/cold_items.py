"""Items that no training has seen, added afterwards: are they recommended to those who took them?

    python -m benchmarks.cold_items DATA/prepared

DATA/prepared is what the stage `prepare_data` writes. One item in twenty is drawn and every interaction with it is left
out of training; then the items are added by what is written about them, as `genrec.add_items` does. A user's last item
is predicted from those before it, new ones included, and users are told apart by whether it is new. The boost of new
items is chosen on the last item but one, by the harmonic mean of the recalls of new and known targets (Xian et al.
2017, arXiv 1703.04394). Intervals are 95 % bootstraps over users.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genrec.codes.code_table import build_code_table
from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.data.words import WordModel
from genrec.digits.table import digits_of, fit_quantizers
from genrec.evaluation.figures import bootstrap_intervals
from genrec.generation.beam_search import beam_search
from genrec.models.parallel import Parallel
from genrec.models.sasrec import SASRec
from genrec.models.tiger import Tiger
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.networks.generating.tiger import TigerNetwork
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.pipeline.command import keep_freed_memory
from genrec.retrieval.ranks import ranks_in_lists, top_items
from genrec.sequences.batches import segment_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.serving.constrained import tree_of
from genrec.serving.new_items import NewItems, extended_network
from genrec.storage.checkpoint import network_arguments
from genrec.storage.output import read_parquet
from genrec.training.base import BaseTrainer
from genrec.training.config import RankingConfig
from genrec.training.curves import CurveLogger
from genrec.training.precision import resolve_precision

SHARE, K, MAX_HISTORY, BATCH, RESAMPLES = 0.05, 10, 50, 256, 1000
BOOSTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
COLUMNS, WORD_DIM = ("title", "brand", "brand", "categories"), 128
DIGITS, DIGIT_CODES, CODES, LEVELS, ITERATIONS = 32, 256, 256, 3, 12
VALIDATED_EVERY = 4  # epochs
N_BEAMS, SEARCHED = 50, 1000  # users with known targets for whom a search is run; all whose target is new
# histories to log-probabilities (batch, n_items + 1) of all items that the model reaches
Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Split:
    """A data set whose new items have the highest item_ids.

    Attributes:
        everything: all interactions, n_known + n_new items.
        learned: those without new items, n_known items.
        words, new_words: (n_known + 1, dim) with padding, and (n_new, dim).
    """

    everything: Histories
    learned: Histories
    words: np.ndarray
    new_words: np.ndarray

    @property
    def n_known(self) -> int:
        return self.learned.n_items

    @property
    def n_new(self) -> int:
        return len(self.new_words)

    @classmethod
    def draw(cls, histories: Histories, items: pd.DataFrame, seed: int) -> "Split":
        n_new = round(SHARE * histories.n_items)
        new = np.sort(np.random.default_rng(seed).permutation(histories.n_items)[:n_new]) + 1
        known = np.setdiff1d(np.arange(1, histories.n_items + 1), new)
        number = np.zeros(histories.n_items + 1, np.int32)
        number[np.concatenate([known, new])] = np.arange(1, histories.n_items + 1)
        everything = Histories(number[histories.items], histories.offsets, histories.n_items, histories.tied)
        model = WordModel.fit(items.iloc[known - 1].reset_index(drop=True), COLUMNS, WORD_DIM, seed=0)
        return cls(everything, without(everything, len(known)), model.known.vectors, model.vectors(items.iloc[new - 1]))


def without(histories: Histories, n_known: int) -> Histories:
    """Only what was done with known items; users with fewer than four such interactions are left out."""
    kept = histories.items <= n_known
    users = np.repeat(np.arange(histories.n_users), histories.lengths)
    lengths = np.bincount(users[kept], minlength=histories.n_users)
    kept &= (lengths >= 4)[users]
    offsets = np.concatenate([[0], np.cumsum(lengths[lengths >= 4])])
    return Histories(histories.items[kept], offsets, n_known)


def train(model: Any, split: Split, epochs: int, seed: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        config = RankingConfig(
            experiment_name="cold_items", max_epochs=epochs, early_stopping_patience=0, gpus=0, random_seed=seed,
            checkpoint_dir=folder, monitor="val_ndcg_at_10", val_check_interval=VALIDATED_EVERY,
            precision=resolve_precision("auto", 0, portable=False), progress_bar=False,
        )  # fmt: skip
        BaseTrainer(model, config, CurveLogger()).train(
            segment_loader(split.learned, MAX_HISTORY, 128, seed),
            window_loader(split.learned, "validation", MAX_HISTORY, 512, seed),
        )
    return model.float().eval()


def network_of(model: Any, kind: type) -> tuple[Any, dict[str, Any]]:
    """A trained module's network and the arguments of its constructor."""
    arguments = network_arguments(kind, dict(model.hparams))
    network = kind(**arguments)
    network.load_state_dict(model.state_dict(), strict=False)
    return network.eval(), arguments


def parallel(split: Split, seed: int) -> Score:
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
    return lambda history: extended.scores(history).log_softmax(1)


def sasrec_with_words(split: Split, seed: int) -> Score:
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
    return lambda history: extended.scores(history).log_softmax(1)


def tiger(split: Split, seed: int) -> Score:
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
    generator = extended.generator
    tree = tree_of(generator.code_table, torch.arange(len(generator.code_table)) > split.n_known)

    def score(history: Tensor) -> Tensor:
        """Of what a search among all items finds, and another among the new ones alone."""
        found = generator.generate(history, N_BEAMS)
        scores = found.log_probs.new_full((len(history), len(generator.code_table)), -torch.inf)
        scores = scores.scatter(1, found.items, found.log_probs)
        beams = beam_search(generator.network.beam_decoder(generator.history_tokens(history)), tree, N_BEAMS)
        return scores.scatter(1, tree.items[beams.nodes], beams.log_probs)

    return score


def likeness_of_words(split: Split, seed: int) -> Score:
    """No training: the cosine of an item's words with those of the last item."""
    words = torch.nn.functional.normalize(torch.from_numpy(np.concatenate([split.words, split.new_words])), dim=1)

    def score(history: Tensor) -> Tensor:
        last = (history != 0).sum(1, keepdim=True) - 1
        return words[history.gather(1, last)[:, 0]] @ words.T

    return score


MODELS: dict[str, Callable[[Split, int], Score]] = {
    "likeness of words to the last item": likeness_of_words,
    "parallel, digits of words": parallel,
    "SASRec with words": sasrec_with_words,
    "TIGER, codes of words": tiger,
}


@torch.inference_mode()
def hits(score: Score, split: Split, which: Any, searched: bool) -> Iterator[tuple[np.ndarray, Tensor]]:
    """For each boost whether each user's target is among ten, (n_users,) float; and first whose target is new."""
    examples = split.everything.examples(which)
    is_new = split.everything.targets(examples) > split.n_known
    chosen = np.arange(len(examples))
    if searched:
        others = np.random.default_rng(0).permutation(np.flatnonzero(~is_new))[:SEARCHED]
        chosen = np.sort(np.concatenate([np.flatnonzero(is_new), others]))
    examples, is_new = examples.take(chosen), is_new[chosen]
    found: list[list[Tensor]] = [[] for _ in BOOSTS]
    for first in range(0, len(examples), BATCH):
        part = examples.take(np.arange(first, min(first + BATCH, len(examples))))
        seen = torch.from_numpy(split.everything.padded(part)).long()
        scores = score(torch.from_numpy(split.everything.padded(part.cut(MAX_HISTORY))).long())
        scores = scores.scatter(1, seen, -torch.inf)
        targets = torch.from_numpy(split.everything.targets(part)).long()
        for place, boost in enumerate(BOOSTS):
            raised = scores.clone()
            raised[:, split.n_known + 1 :] += boost
            found[place].append((ranks_in_lists(top_items(raised, K), targets) <= K).float())
    for parts in found:
        yield is_new, torch.cat(parts)


def row(name: str, split: Split, seed: int) -> Iterator[str]:
    started = time.process_time()
    score, searched = MODELS[name](split, seed), name.startswith("TIGER")
    of_validation = list(hits(score, split, "validation", searched))
    means = [(float(each[new].mean()), float(each[~new].mean())) for new, each in of_validation]
    harmonic = [2 * new * known / max(new + known, 1e-12) for new, known in means]
    best = int(np.argmax(harmonic))
    tested = list(hits(score, split, "test", searched))
    minutes = (time.process_time() - started) / 60
    for place in dict.fromkeys((0, best)):
        is_new, each = tested[place]
        cells = []
        for users in (is_new, ~is_new):
            values = each[users]
            low, high = bootstrap_intervals({"hits": values}, RESAMPLES, seed=0)["hits"]
            cells.append(f"{float(values.mean()):.3f} [{low:.3f}, {high:.3f}]")
        counts = f"{int(is_new.sum())}, {int((~is_new).sum())}"
        yield f"| {name} | {BOOSTS[place]:g} | {cells[0]} | {cells[1]} | {counts} | {minutes:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="the folder that prepare_data writes")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    histories = Histories.load(arguments.prepared / "histories.npz")
    split = Split.draw(histories, read_parquet(arguments.prepared / "items.parquet"), arguments.seed)
    print(f"{split.n_new} of {histories.n_items} items are new, {split.learned.n_users} users are learned from")
    print(f"| model | boost | recall@{K}, new targets | recall@{K}, known targets | users | CPU minutes |")
    print("|---|---|---|---|---|---|")
    for name in arguments.models:
        for line in row(name, split, arguments.seed):
            print(line, flush=True)


if __name__ == "__main__":
    main()
