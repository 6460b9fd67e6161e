"""Train SASRec with and without the items' words, two towers, parallel semantic IDs, TIGER and ETEGRec on one data set:

    python -m benchmarks.quality DATA/prepared --set scientific --out data/quality/scientific --seeds 0 1 2
    python -m benchmarks.quality_table data/quality/scientific

DATA/prepared is what the stage `prepare_data` writes. Each model and seed gets a folder with its weights, its curves,
`run.json` (settings, CPU minutes, the memory's share) and `ranks.npz` (each target's rank: of a user's held-out item,
or after a split in time of what is later than the cut, new users included). One that is there is not made again, so
that several processes can share the work.

Everything is chosen on validation, NDCG@10 with the history excluded: the epoch, the memory of transitions, its share.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.quality_codes import ETEGREC, TIGER, etegrec, searched, tiger, trainer_of
from benchmarks.quality_towers import TOWERS_MONITOR, TWO_TOWERS, train_two_towers
from genrec.data.words import embed_words, join_embeddings
from genrec.digits.table import build_digits
from genrec.generation.generated_items import GeneratedItems
from genrec.models.etegrec.module import ETEGRec
from genrec.models.parallel import Parallel
from genrec.models.sasrec import SASRec
from genrec.models.tiger import Tiger
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.pipeline.command import keep_freed_memory
from genrec.ranking.baselines import Popularity
from genrec.retrieval.memory import BeamsWithMemory, TransitionSettings, WithMemory, choose_share, choose_transitions
from genrec.retrieval.ranking import RankedItems, ScoresItems, rank_by_scores, rank_found
from genrec.retrieval.ranks import ranks_in_lists
from genrec.retrieval.transitions import Transitions
from genrec.sequences.batches import segment_loader, window_loader
from genrec.sequences.histories import EVALUATED_SPLITS, Histories, Split, TimeCuts
from genrec.storage.checkpoint import load_model, save_model
from genrec.storage.files import save_arrays
from genrec.storage.output import read_parquet
from genrec.training.curves import CurveLogger, write_curves
from genrec.training.precision import resolve_precision

MONITOR = "val_ndcg_at_10_excluded"  # what chooses the epoch
DECIDING_USERS = 5_000  # of validation, the same each time: for the epoch, the memory and its share
SHARES = tuple(i / 10 for i in range(9))
WORD_DIM, CODES, ITERATIONS = 128, 256, 12
COMMON = {"dropout": 0.5, "num_negatives": 4096, "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 200,
          "learns_repeats": True}  # fmt: skip
SASREC = {**COMMON, "loss": "sampled_softmax", "input_norm": True, "embedding_dim": 64}
PARALLEL = {**COMMON, "embedding_dim": 128}


class DigitsAlone(Parallel):
    """The ablation without the loss over items: digits are learned as if they were independent."""

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = super().losses(batch)
        return {**losses, "loss": losses["digit_loss"]}


@dataclass(frozen=True)
class DataSet:
    """What was chosen on a data set's validation.

    Attributes:
        columns: of the item table, whose words the models are given; none where it has no words.
        max_history, batch_size, epochs, patience: of all models.
        shuffles_ties: whether interactions of one time stand in another order each epoch.
        monitor: the figure of validation that chooses the epoch; two towers have one of their own.
        sasrec, words, two_towers, parallel, tiger, etegrec: what differs from the settings of all sets; `words` is
            for SASRec with words.
    """

    columns: tuple[str, ...]
    max_history: int = 50
    batch_size: int = 128
    epochs: int = 40
    patience: int = 8
    shuffles_ties: bool = True
    monitor: str = MONITOR
    sasrec: dict[str, Any] = field(default_factory=dict)
    words: dict[str, Any] = field(default_factory=dict)
    two_towers: dict[str, Any] = field(default_factory=dict)
    parallel: dict[str, Any] = field(default_factory=dict)
    tiger: dict[str, Any] = field(default_factory=dict)
    etegrec: dict[str, Any] = field(default_factory=dict)


PRODUCT = ("title", "brand", "brand", "categories")
BEAUTY = DataSet(
    PRODUCT, epochs=30, patience=5, shuffles_ties=False, words={"embedding_dim": 128}, parallel={"epochs": 24}
)
SETS = {
    "beauty": BEAUTY,
    # prepared with `ties: hash`, since the file's order of a day is the alphabet's: in it each order is as good
    "beauty-hashed": replace(BEAUTY, shuffles_ties=True),
    "scientific": DataSet(PRODUCT, epochs=50, words={"embedding_dim": 128}, parallel={"embedding_dim": 256}),
    "instruments": DataSet((), epochs=30, patience=5, parallel={"epochs": 24}),
    "ml-100k": DataSet(("movie_title", "release_year", "class", "class"), max_history=20),
    "movietweetings": DataSet(("title", "year", "genres", "genres"), max_history=20),
}


Model = SASRec | HistoryTowers | Parallel | Tiger | ETEGRec
SETTINGS = {"sasrec": SASREC, "words": SASREC, "two_towers": TWO_TOWERS, "parallel": PARALLEL, "tiger": TIGER,
            "etegrec": ETEGREC}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        kind: the model that is trained.
        options: the field of `DataSet` that has its settings, and of SETTINGS.
        digits: how many are made of the items of `base`, and of the words.
    """

    kind: type[Model]
    options: str
    digits: tuple[int, int] = (0, 0)
    changes: dict[str, Any] = field(default_factory=dict)
    base: str = "sasrec"

    @property
    def is_made_of_vectors(self) -> bool:
        """Whether it needs the items of `base`."""
        return self.digits[0] > 0 or self.kind in (Tiger, ETEGRec)

    def options_of(self, settings: DataSet) -> dict[str, Any]:
        """What its model and its training are given on a data set."""
        return {**SETTINGS[self.options], **getattr(settings, self.options), **self.changes}

    def monitor_of(self, settings: DataSet) -> str:
        """The figure of validation that chooses the epoch."""
        return TOWERS_MONITOR if self.kind is HistoryTowers else settings.monitor

    def is_possible(self, settings: DataSet) -> bool:
        """Whether the data set has words, or the model needs none."""
        needs_words = self.digits[1] > 0 or self.options == "words" or self.base == "sasrec+words"
        return bool(settings.columns) or not needs_words


VARIANTS = {
    "sasrec": Variant(SASRec, "sasrec"),
    "sasrec+words": Variant(SASRec, "words", changes={"content_dim": WORD_DIM}),
    "sasrec+words, 256-d": Variant(SASRec, "words", changes={"content_dim": WORD_DIM, "embedding_dim": 256}),
    "two towers": Variant(HistoryTowers, "two_towers"),
    "parallel": Variant(Parallel, "parallel", (16, 16)),
    "parallel, 256-d": Variant(Parallel, "parallel", (16, 16), {"embedding_dim": 256}),
    "parallel of sasrec": Variant(Parallel, "parallel", (16, 0)),
    "parallel of words": Variant(Parallel, "parallel", (0, 16)),
    "parallel of sasrec+words": Variant(Parallel, "parallel", (16, 16), base="sasrec+words"),
    "parallel, item loss": Variant(Parallel, "parallel", (16, 16), {"digit_loss_weight": 0.0}),
    "parallel, digit loss": Variant(DigitsAlone, "parallel", (16, 16), {"num_trained_digits": 32}),
    "tiger": Variant(Tiger, "tiger"),
    # ETEGRec's network and codes to begin with, which it has no item vectors beside
    "tiger, code loss": Variant(
        Tiger, "tiger", changes={"tokenizer": "rqvae", "item_vectors": False, "dense_loss_weight": 0.0}
    ),
    "etegrec": Variant(ETEGRec, "etegrec"),
}
UNTRAINED = ("popularity", "co-occurrence", "transitions")


@dataclass
class Experiment:
    """One data set, and the folder that its results go to."""

    histories: Histories
    items: Any
    settings: DataSet
    out: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    minutes: float = math.inf  # of the CPU, after which a training stops at its next validation

    @classmethod
    def of(cls, prepared: Path, settings: DataSet, out: Path, **how: Any) -> "Experiment":
        """That of the data in the folder that prepare_data writes."""
        items = read_parquet(prepared / "items.parquet")
        return cls(Histories.load(prepared / "histories.npz"), items, settings, out, **how)

    @property
    def max_history(self) -> int:
        return self.settings.max_history

    def deciding(self) -> Histories:
        """Some users that validation has targets of, and of whom no more than validation is asked."""
        users = self._deciding_users()
        starts, lengths = self.histories.offsets[users], self.histories.lengths[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        cuts, moved = self.histories.cuts, offsets[:-1] - starts
        if cuts is not None:
            cuts = TimeCuts(cuts.train_stops[users] + moved, cuts.validation_stops[users] + moved, cuts.all_targets)
        return Histories(self.histories.items[places], offsets, self.histories.n_items, cuts=cuts)

    def _deciding_users(self) -> NDArray[np.int64]:
        """Their places, from 0; after a split in time not all users have a target between the moments."""
        asked = np.unique(self._users_of("validation"))
        return asked[np.sort(np.random.default_rng(0).permutation(len(asked))[:DECIDING_USERS])]

    def _users_of(self, split: Split) -> NDArray[np.int64]:
        """int64 (n_targets,), the place, from 0, of the user that each target of a split is of."""
        return self.histories.users_of(self.histories.examples(split)) - 1

    def memory(self) -> Transitions:
        file = self.out / "transitions.json"
        if not file.exists():
            started = time.process_time()
            _, chosen = choose_transitions(self.histories, DECIDING_USERS, seed=0)
            write_json({**asdict(chosen), "cpu_minutes": (time.process_time() - started) / 60}, file)
        values = json.loads(file.read_text())
        values.pop("cpu_minutes")
        learned = self.histories.train_part()
        settings = asdict(TransitionSettings(**values))
        return Transitions.fit(learned.items, learned.offsets, learned.n_items, **settings)

    def words(self, seed: int) -> NDArray[np.float32]:
        return embed_words(self.items, self.settings.columns, WORD_DIM, seed).vectors

    def run(self, name: str, seed: int) -> Path:
        """Train and evaluate a variant, unless its folder is there."""
        folder = self.out / f"{name.replace('+', ' ').replace(', ', ' ').replace(' ', '-')}-seed{seed}"
        if not (folder / "run.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._train(VARIANTS[name], name, seed, folder)
        return folder

    def _untouched(self) -> "Experiment":
        """As it is for what a model is only made of: with the settings of the data set, to its end."""
        return replace(self, overrides={}, minutes=math.inf)

    def _train(self, variant: Variant, name: str, seed: int, folder: Path) -> None:
        base = self._untouched().run(variant.base, seed) if variant.is_made_of_vectors else None
        started = time.process_time()
        options = {**variant.options_of(self.settings), **self.overrides}
        of_training = {"epochs": self.settings.epochs, "batch_size": self.settings.batch_size, "validate_every": 1,
                       "patience": self.settings.patience, "final_epochs": 0}  # fmt: skip
        of_training = {key: options.pop(key, value) for key, value in of_training.items()}
        model = self._model(variant, options, base, seed, folder)
        curves = CurveLogger()

        def watch(epoch: int, values: Mapping[str, float]) -> None:
            spent = (time.process_time() - started) / 60
            curves.rows[epoch]["cpu_minutes"] = spent
            if spent > self.minutes and self.settings.monitor in curves.rows[epoch]:
                model.trainer.should_stop = True

        curves.listener = watch
        if isinstance(model, HistoryTowers):
            train_two_towers(model, self.histories, self.deciding(), of_training, curves, seed, folder)
        else:
            self._learn_sequences(model, name, of_training, curves, seed, folder)
        save_model(model, folder / "model.ckpt")
        write_curves(curves.rows, folder / "curves.csv")
        trained = (time.process_time() - started) / 60
        share = self._evaluate(model.eval(), folder)
        base_minutes = 0.0 if base is None else json.loads((base / "run.json").read_text())["cpu_minutes"]
        of_epochs = curves.summary(variant.monitor_of(self.settings), "max")
        summary = {"model": name, "seed": seed, **of_epochs, "share": share, "cpu_minutes": trained,
                   "cpu_minutes_of_sasrec": base_minutes,
                   "max_history": self.max_history, **of_training, "options": options}  # fmt: skip
        write_json(summary, folder / "run.json")
        print(json.dumps(summary), flush=True)

    def _learn_sequences(
        self, model: Any, name: str, of_training: dict[str, Any], curves: CurveLogger, seed: int, folder: Path
    ) -> None:
        loader = segment_loader(
            self.histories, self.max_history, of_training["batch_size"], seed, self.settings.shuffles_ties
        )
        trainer_of(
            model, of_training["final_epochs"], curves, experiment_name=name, max_epochs=of_training["epochs"],
            val_check_interval=of_training["validate_every"], early_stopping_patience=of_training["patience"], gpus=0,
            random_seed=seed, precision=resolve_precision("auto", 0, portable=False),
            checkpoint_dir=str(folder / "checkpoints"), monitor=self.settings.monitor,
        ).train(loader, window_loader(self.deciding(), "validation", self.max_history, 512, seed))  # fmt: skip

    def _model(self, variant: Variant, options: dict[str, Any], base: Path | None, seed: int, folder: Path) -> Model:
        torch.manual_seed(seed)
        n_items, max_history = self.histories.n_items, self.max_history
        vectors = None if base is None else self.vectors(base)
        if variant.kind in (Tiger, ETEGRec):
            assert vectors is not None
            build = tiger if variant.kind is Tiger else etegrec
            return build(n_items, max_history, options, vectors, seed, folder)
        if variant.kind is HistoryTowers:
            return HistoryTowers(n_items, max_history=max_history, **options)
        if variant.kind is SASRec:
            model = SASRec(n_items, max_history=max_history, **options)
            if model.content_dim:
                model.set_content(torch.from_numpy(join_embeddings([self.words(seed)])))
            return model
        sources = []
        of_sasrec, of_words = variant.digits
        if vectors is not None:
            sources.append((vectors, of_sasrec))
        if of_words:
            sources.append((self.words(seed), of_words))
        assert issubclass(variant.kind, Parallel)
        digits = build_digits(sources, CODES, ITERATIONS, seed)
        parallel = variant.kind(n_items, digits.shape[1], CODES, max_history=max_history, **options)
        parallel.set_digits(digits)
        return parallel

    def vectors(self, base: Path) -> NDArray[np.float32]:
        """(n_items + 1, dim), row = item_id: the items of a SASRec that was trained."""
        sasrec = load_model(SASRec, base / "model.ckpt")
        with torch.inference_mode():
            return sasrec.item_vectors(torch.arange(self.histories.n_items + 1)).numpy()

    @torch.inference_mode()
    def _evaluate(self, model: Model, folder: Path) -> float:
        """Write `ranks.npz`: split/protocol of the model, and with `+memory` of both together; return the share."""
        memory = self.memory()
        if isinstance(model, Tiger | ETEGRec):
            return self._evaluate_beams(searched(model, self.histories, self.max_history), memory, folder)
        repeats = getattr(model, "repeats", None)  # two towers learn of none
        mixture = WithMemory(model.scores, memory, 0.0, repeats)
        share = choose_share(mixture, SHARES, self.histories, self.max_history, DECIDING_USERS, seed=0)
        ranks = self.ranks(model.scores, "")
        ranks |= self.ranks(WithMemory(model.scores, memory, share, repeats).scores, "+memory")
        save_arrays(ranks, folder / "ranks.npz")
        return share

    def _evaluate_beams(self, found: dict[Split, GeneratedItems], memory: Transitions, folder: Path) -> float:
        rows = torch.from_numpy(np.isin(self._users_of("validation"), self._deciding_users()))
        of_deciding = GeneratedItems(*(part[rows] for part in found["validation"]))
        share = BeamsWithMemory({"validation": of_deciding}, memory, self.deciding()).best_share(SHARES, 512)
        both = BeamsWithMemory(found, memory, self.histories)
        ranks = {}
        for split in EVALUATED_SPLITS:
            for suffix, lists in (("", found[split].items), ("+memory", both.lists(split, share))):
                ranks |= ranks_of(split, suffix, rank_found(lists, self.histories, split, 10, 512))
        save_arrays(ranks, folder / "ranks.npz")
        return share

    def ranks(self, score: ScoresItems, suffix: str) -> dict[str, NDArray[np.int32]]:
        """split/protocol to each target's rank, 11 where it is not among ten."""
        found = {}
        for split in EVALUATED_SPLITS:
            ranked = rank_by_scores(score, self.histories, split, self.max_history, 10, 512, progress_bar=False)
            found |= ranks_of(split, suffix, ranked)
        return found

    @torch.inference_mode()
    def baselines(self) -> None:
        """What needs no training, and of each target of the test what the tables are broken down by."""
        learned = self.histories.train_part()
        memory = self.memory()
        scores: dict[str, Callable[[Tensor], Tensor]] = {
            "popularity": Popularity.fit(learned.items, learned.n_items).scores,
            "co-occurrence": Transitions.fit(
                learned.items, learned.offsets, learned.n_items, **asdict(TransitionSettings())
            ),
            "transitions": memory,
        }
        for name, score in scores.items():
            folder = self.out / f"{name}-seed0"
            folder.mkdir(parents=True, exist_ok=True)
            save_arrays(self.ranks(score, ""), folder / "ranks.npz")
            write_json(
                {"model": name, "seed": 0, "cpu_minutes": 0.0, "cpu_minutes_of_sasrec": 0.0}, folder / "run.json"
            )
        save_arrays(self._kinds_of_targets(memory), self.out / "targets.npz")

    def _kinds_of_targets(self, memory: Transitions) -> dict[str, NDArray[Any]]:
        """Of each target of the test, what the tables break down by.

        Returns:
            known_transition: bool, whether the memory knows the way to it.
            times_learned: int64, how often its item was.
            user: int64, the user_id.
            new_user: bool, whether nothing of the user was learned.
            history: int64, how many interactions are before it.
        """
        examples, learned = self.histories.examples("test"), self.histories.train_part()
        counts = np.bincount(learned.items, minlength=self.histories.n_items + 1)
        known = []
        for first in range(0, len(examples), 512):
            part = examples.take(np.arange(first, min(first + 512, len(examples))))
            remembered = memory(torch.from_numpy(self.histories.padded(part)).long())
            known.append(remembered.gather(1, torch.from_numpy(self.histories.targets(part)).long()[:, None])[:, 0] > 0)
        return {
            "known_transition": torch.cat(known).numpy(),
            "times_learned": counts[self.histories.targets(examples)],
            "user": self.histories.users_of(examples),
            "new_user": learned.lengths[self._users_of("test")] == 0,
            "history": examples.lengths,
        }


def models_of(settings: DataSet) -> list[str]:
    """The rows that a data set can have: without words, those of models that are given none; no model by two names."""
    models: dict[str, tuple[Any, ...]] = {}
    for name, variant in VARIANTS.items():
        model = variant.kind, variant.digits, variant.base, variant.options_of(settings)
        if variant.is_possible(settings) and model not in models.values():
            models[name] = model
    return ["baselines", *models]


def ranks_of(split: Split, suffix: str, ranked: RankedItems) -> dict[str, NDArray[np.int32]]:
    """split/protocol and the suffix, to each target's rank, 11 where it is not among ten."""
    return {
        f"{split}/{protocol}{suffix}": ranks_in_lists(lists, ranked.targets).int().numpy()
        for protocol, lists in ranked.lists.items()
    }


def write_json(content: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="the folder that prepare_data writes")
    parser.add_argument("--set", choices=SETS, required=True, dest="name", help="whose settings to take")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", choices=["baselines", *VARIANTS], help="by default all of the set")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--options", type=json.loads, default={}, help="JSON over the named models' settings")
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="of CPU time; a training ends with its best so far, but for two towers, whose is short",
    )
    arguments = parser.parse_args()
    settings = SETS[arguments.name]
    models = arguments.models or models_of(settings)
    for model in models:
        if model in VARIANTS and not VARIANTS[model].is_possible(settings):
            possible = ", ".join(models_of(settings))
            parser.error(f"{model} needs words of items, which {arguments.name} has not; it has {possible}")
    torch.set_num_threads(1)
    keep_freed_memory()
    experiment = Experiment.of(
        arguments.prepared, SETS[arguments.name], arguments.out,
        overrides=arguments.options, minutes=arguments.minutes,
    )  # fmt: skip
    for model in models:
        if model == "baselines":
            experiment.baselines()
        else:
            for seed in arguments.seeds:
                experiment.run(model, seed)


if __name__ == "__main__":
    main()
