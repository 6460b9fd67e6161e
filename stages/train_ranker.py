"""Train a ranker for each generator's candidates, on validation targets, which no generator has seen."""

import math
from pathlib import Path

import torch

from genrec.codes.code_table import load_code_table
from genrec.models.sasrec import SASRec
from genrec.params import Evaluate, Model, Runtime, Trainer, TrainRanker, read_section, read_seed
from genrec.pipeline.command import run_stage
from genrec.pipeline.tracking import live_curves
from genrec.ranking.fit_ranker import RankerSettings, RatingScale, fit_ranker
from genrec.ranking.item_attributes import stack_attributes
from genrec.ranking.ranker import Ranker
from genrec.ranking.rows import SIGNALS, RowBuilder, draw_users
from genrec.retrieval.candidates import Candidates
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import load_model, save_model
from genrec.storage.output import read_parquet, replaced, write_metrics
from genrec.training.base import check_gpus
from genrec.training.curves import CurveLogger, Listener, write_curves
from genrec.training.precision import precision_figure, resolve_precision
from genrec.training.scratch import scratch

HISTORIES = Path("data/prepared/histories.npz")
INTERACTIONS = Path("data/prepared/interactions.parquet")
ITEMS = Path("data/prepared/items.parquet")
SASREC = Path("data/models/sasrec.ckpt")
CODE_TABLE = Path("data/code_table.npy")
ETEGREC_CODE_TABLE = Path("data/etegrec_code_table.npy")
CANDIDATES = Path("data/candidates")
RANKERS = Path("data/models/rankers")
METRICS = Path("reports/train_ranker/metrics.json")
CURVES = Path("reports/train_ranker/history.csv")


def main() -> None:
    config, trainer, knn = read_section(TrainRanker), read_section(Trainer), read_section(Evaluate).item_knn
    check_gpus(trainer.gpus, "trainer.gpus")
    torch.set_num_threads(trainer.num_threads)
    histories, sasrec = Histories.load(HISTORIES), load_model(SASRec, SASREC)
    max_history = min(config.max_history, sasrec.max_history)
    builder = RowBuilder.fit(histories, sasrec.scores, max_history, knn.history, knn.window)
    live = live_curves("train_ranker")  # one for all rankers: trouble with the store is said once
    curves: dict[int, dict[str, float]] = {}
    metrics = {}
    with replaced(RANKERS) as folder:
        for generator, table in (("tiger", CODE_TABLE), ("etegrec", ETEGREC_CODE_TABLE), ("two_tower", CODE_TABLE)):
            ranker, logger = train(generator, table, builder, live)
            save_model(ranker, folder / f"{generator}.ckpt")
            summary = logger.summary(f"{generator}/{ranker.monitor}", "max")
            # the area under the curve of held-out candidates that hold no target, or nothing else, is not defined
            metrics[generator] = {name: value for name, value in summary.items() if math.isfinite(value)}
            for epoch, row in logger.rows.items():
                curves.setdefault(epoch, {}).update(row)
    write_curves(curves, CURVES)
    precision = resolve_precision(trainer.precision, trainer.gpus)
    write_metrics({**metrics, **precision_figure(trainer.precision, precision)}, METRICS)


def train(generator: str, table: Path, builder: RowBuilder, live: Listener) -> tuple[Ranker, CurveLogger]:
    """The ranker of one generator's candidates, and its curves, named after the generator."""
    shape, config, trainer, seed = read_section(Model), read_section(TrainRanker), read_section(Trainer), read_seed()
    knn = read_section(Evaluate).item_knn
    precision = resolve_precision(trainer.precision, trainer.gpus)
    histories, file = builder.histories, CANDIDATES / f"{generator}_validation.parquet"
    codes = load_code_table(table, histories.n_items, shape.code_num, shape.num_levels)
    attributes = stack_attributes(codes, read_parquet(ITEMS), config.item_columns)
    column = read_parquet(INTERACTIONS).get("rating")
    ratings = None if column is None else column.to_numpy()
    with torch.inference_mode():
        rows = builder.rows(Candidates.load(file, histories.n_users), "validation", ratings)
    torch.manual_seed(seed)
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
    logger = CurveLogger(live, prefix=f"{generator}/")
    settings = RankerSettings(
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_epochs=config.max_epochs,
        patience=config.patience,
        loss_weighting=config.loss_weighting,
        gpus=trainer.gpus,
        precision=precision,
        seed=seed,
        progress_bar=read_section(Runtime).progress_bar,
    )
    inputs = [HISTORIES, INTERACTIONS, ITEMS, SASREC, table, file]
    with scratch("train_ranker", [shape, config, knn, trainer, precision, seed, generator], inputs) as folder:
        holdout = draw_users(histories.n_users, config.holdout, seed)
        scale = RatingScale.of(ratings)
        fit_ranker(ranker, rows, holdout, settings, scale, str(folder), logger, f"train_ranker/{generator}")
    return ranker, logger


if __name__ == "__main__":
    run_stage(main, __doc__)
