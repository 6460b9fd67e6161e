"""Train a ranker for each generator's candidates, on validation targets, which no generator has seen."""

import math
from pathlib import Path

import torch

from genrec.codes.code_table import load_code_table
from genrec.errors import UserError
from genrec.generators.entry import GeneratorEntry, proposing_generators
from genrec.layers.device import device_of
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.params.model import Model
from genrec.params.reading import read_section, read_seed
from genrec.params.runtime import Runtime
from genrec.params.train_ranker import TrainRanker
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.pipeline.tracking import live_curves
from genrec.ranking.fit_ranker import RankerSettings, RatingScale, fit_ranker
from genrec.ranking.item_attributes import stack_attributes
from genrec.ranking.ranker import Ranker
from genrec.ranking.rows import SIGNALS, RowBuilder, draw_users
from genrec.retrieval.candidates import Candidates
from genrec.retrieval.transitions import Transitions
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import load_model, save_model
from genrec.storage.output import read_parquet, replaced
from genrec.training.curves import Listener
from genrec.training.stage import TrainingStage, check_machine

HISTORIES = Path("data/prepared/histories.npz")
INTERACTIONS = Path("data/prepared/interactions.parquet")
ITEMS = Path("data/prepared/items.parquet")
SASREC = Path("data/models/sasrec.ckpt")
TRANSITIONS = Path("data/transitions.npz")
CANDIDATES = Path("data/candidates")
RANKERS = Path("data/models/rankers")
METRICS = Path("reports/train_ranker/metrics.json")
CURVES = Path("reports/train_ranker/history.csv")


def main() -> None:
    config, trainer = read_section(TrainRanker), read_section(Trainer)
    check_machine("train_ranker", trainer)
    torch.set_num_threads(trainer.num_threads)
    histories, device = Histories.load(HISTORIES), device_of(trainer.gpus)
    sasrec = load_model(SASRecNetwork, SASREC, n_items=histories.n_items).to(device)
    max_history = min(config.max_history, sasrec.max_history)
    transitions = Transitions.load(TRANSITIONS, histories.n_items)
    builder = RowBuilder.fit(histories, sasrec.scores, transitions, max_history, device)
    live = live_curves("train_ranker")  # one for all rankers: trouble with the store is said once
    generators = proposing_generators()
    trained = [train(generator, builder, live) for generator in generators]
    TrainingStage.end_others()
    curves: dict[int, dict[str, float]] = {}
    metrics = {}
    with replaced(RANKERS) as folder:
        for generator, (stage, ranker) in zip(generators, trained, strict=True):
            save_model(ranker, folder / generator.checkpoint.name)
            summary = stage.logger.summary(f"{generator.name}/{ranker.monitor}", "max")
            # the area under the curve of held-out candidates that hold no target, or nothing else, is not defined
            metrics[generator.name] = {name: value for name, value in summary.items() if math.isfinite(value)}
            for epoch, row in stage.logger.rows.items():
                curves.setdefault(epoch, {}).update(row)
    stage.write_figures(curves, CURVES, METRICS, metrics)


def train(generator: GeneratorEntry, builder: RowBuilder, live: Listener) -> tuple[TrainingStage, Ranker]:
    """The ranker of one generator's candidates; its figures are named after the generator."""
    shape, config, seed = read_section(Model), read_section(TrainRanker), read_seed()
    histories, file = builder.histories, CANDIDATES / f"{generator.name}_validation.parquet"
    user_ids = histories.users_of(histories.examples("validation"))
    holdout = draw_users(user_ids, config.holdout, seed)
    table = generator.described_by()
    codes = load_code_table(table, histories.n_items, shape.code_num, shape.num_levels)
    attributes = stack_attributes(codes, read_parquet(ITEMS), config.item_columns)
    interactions = read_parquet(INTERACTIONS)
    if len(interactions) != len(histories.items):
        raise UserError(
            f"{INTERACTIONS} has {len(interactions):,} rows, but {HISTORIES} {len(histories.items):,};"
            " run `dvc repro -f prepare_data`"
        )
    column = interactions.get("rating")
    ratings = None if column is None else column.to_numpy()
    with torch.inference_mode():
        rows = builder.rows(
            Candidates.load(file, user_ids, histories.n_items),
            "validation",
            ratings,
        )
    stage = TrainingStage(
        "train_ranker", read_section(Trainer), read_section(Runtime), seed, live, prefix=f"{generator.name}/"
    )
    ranker = Ranker(
        config.network,
        histories.n_items,
        [int(size) for size in attributes.max(0).values + 1],
        len(SIGNALS),
        config.embedding_dim,
        config.hidden_dims,
        config.dropout,
    )
    ranker.set_attributes(attributes)
    settings = RankerSettings(
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_epochs=config.max_epochs,
        patience=config.patience,
        loss_weighting=config.loss_weighting,
        gpus=stage.trainer.gpus,
        precision=stage.precision,
        seed=seed,
        progress_bar=stage.progress_bar,
        devices=stage.trainer.devices,
        num_nodes=stage.trainer.num_nodes,
    )
    inputs = [HISTORIES, INTERACTIONS, ITEMS, SASREC, TRANSITIONS, table, file]
    with stage.scratch([shape, config], inputs, part=generator.name) as folder:
        fit_ranker(
            ranker, rows, holdout, settings, RatingScale.of(ratings), str(folder), stage.logger,
            f"train_ranker/{generator.name}",
        )  # fmt: skip
    return stage, ranker


if __name__ == "__main__":
    run_stage(main, __doc__)
