"""Train TIGER: from a history's semantic IDs to the next item's."""

from pathlib import Path

import torch

from genrec.codes.code_table import load_code_table
from genrec.models.tiger import Tiger
from genrec.params import Model, Runtime, Trainer, TrainTiger, read_section, read_seed
from genrec.pipeline.command import run_stage
from genrec.pipeline.tracking import live_curves
from genrec.sequences.batches import training_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import save_model
from genrec.storage.output import write_metrics
from genrec.training.base import BaseTrainer, check_gpus
from genrec.training.config import RankingConfig
from genrec.training.curves import CurveLogger, write_curves
from genrec.training.precision import precision_figure, resolve_precision
from genrec.training.scratch import scratch

HISTORIES = Path("data/prepared/histories.npz")
CODE_TABLE = Path("data/code_table.npy")
MODEL = Path("data/models/tiger.ckpt")
METRICS = Path("reports/train_tiger/metrics.json")
CURVES = Path("reports/train_tiger/history.csv")


def main() -> None:
    shape, config, trainer, runtime, seed = (
        read_section(Model),
        read_section(TrainTiger),
        read_section(Trainer),
        read_section(Runtime),
        read_seed(),
    )
    check_gpus(trainer.gpus, "trainer.gpus")
    torch.set_num_threads(trainer.num_threads)
    precision = resolve_precision(trainer.precision, trainer.gpus)
    torch.manual_seed(seed)
    histories = Histories.load(HISTORIES)
    size, code_length = config.generator, shape.num_levels + 1
    model = Tiger(
        vocab_size=1 + code_length * shape.code_num,
        embedding_dim=size.embedding_dim,
        num_heads=size.num_heads,
        num_layers=size.num_layers,
        attn_dim=size.attn_dim,
        dropout=size.dropout,
        max_seq_length=size.max_history * code_length,
        learning_rate=config.learning_rate,
        code_length=code_length,
        n_items=histories.n_items,
        head_dim=size.head_dim,
        causal=size.encoder == "causal",
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        schedule=config.schedule,
        n_beams=config.n_beams,
    )
    model.set_code_table(load_code_table(CODE_TABLE, histories.n_items, shape.code_num, shape.num_levels))
    logger = CurveLogger(live_curves("train_tiger"))
    with scratch("train_tiger", [shape, config, trainer, precision, seed], [HISTORIES, CODE_TABLE]) as folder:
        training = RankingConfig(
            experiment_name="train_tiger",
            max_epochs=config.max_epochs,
            val_check_interval=config.validate_every,
            early_stopping_patience=config.patience,
            gpus=trainer.gpus,
            precision=precision,
            random_seed=seed,
            progress_bar=runtime.progress_bar,
            checkpoint_dir=str(folder),
            resume=True,
        )
        BaseTrainer(model, training, logger).train(
            training_loader(
                histories, size.encoder, size.max_history, config.batch_size, seed, config.windows_per_epoch
            ),
            window_loader(histories, "validation", size.max_history, config.batch_size, seed),
        )
        save_model(model, MODEL)
        write_curves(logger.rows, CURVES)
        summary = logger.summary("val_ndcg_at_10", "max")
        write_metrics({**summary, **precision_figure(trainer.precision, precision)}, METRICS)


if __name__ == "__main__":
    run_stage(main, __doc__)
