"""Train SASRec on the histories: the strong sequential baseline, and the source of the item embeddings."""

from pathlib import Path

import torch

from genrec.models.sasrec import SASRec
from genrec.params import Runtime, Trainer, TrainSasrec, read_section, read_seed
from genrec.pipeline.command import run_stage
from genrec.pipeline.tracking import live_curves
from genrec.sequences.batches import segment_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import save_model
from genrec.storage.output import write_metrics
from genrec.training.base import BaseTrainer, check_gpus
from genrec.training.config import RankingConfig
from genrec.training.curves import CurveLogger, write_curves
from genrec.training.precision import precision_figure, resolve_precision
from genrec.training.scratch import scratch

HISTORIES = Path("data/prepared/histories.npz")
MODEL = Path("data/models/sasrec.ckpt")
METRICS = Path("reports/train_sasrec/metrics.json")
CURVES = Path("reports/train_sasrec/history.csv")


def main() -> None:
    config, trainer, runtime, seed = (
        read_section(TrainSasrec),
        read_section(Trainer),
        read_section(Runtime),
        read_seed(),
    )
    check_gpus(trainer.gpus, "trainer.gpus")
    torch.set_num_threads(trainer.num_threads)
    precision = resolve_precision(trainer.precision, trainer.gpus)
    torch.manual_seed(seed)
    histories = Histories.load(HISTORIES)
    model = SASRec(
        n_items=histories.n_items,
        embedding_dim=config.embedding_dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        dropout=config.dropout,
        max_history=config.max_history,
        loss=config.loss,
        num_negatives=config.num_negatives,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    logger = CurveLogger(live_curves("train_sasrec"))
    with scratch("train_sasrec", [config, trainer, precision, seed], [HISTORIES]) as folder:
        training = RankingConfig(
            experiment_name="train_sasrec",
            max_epochs=config.max_epochs,
            early_stopping_patience=config.patience,
            gpus=trainer.gpus,
            precision=precision,
            random_seed=seed,
            progress_bar=runtime.progress_bar,
            checkpoint_dir=str(folder),
            resume=True,
        )
        BaseTrainer(model, training, logger).train(
            segment_loader(histories, config.max_history, config.batch_size, seed),
            window_loader(histories, "validation", config.max_history, config.batch_size, seed),
        )
        save_model(model, MODEL)
        write_curves(logger.rows, CURVES)
        summary = logger.summary("val_ndcg_at_10", "max")
        write_metrics({**summary, **precision_figure(trainer.precision, precision)}, METRICS)


if __name__ == "__main__":
    run_stage(main, __doc__)
