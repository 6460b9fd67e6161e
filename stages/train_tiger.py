"""Train TIGER: from a history's semantic IDs to the next item's."""

from pathlib import Path

from genrec.codes.code_table import load_code_table
from genrec.generators.tiger import TrainTiger
from genrec.models.tiger import Tiger
from genrec.params.model import Model
from genrec.params.reading import read_section, read_seed
from genrec.params.runtime import Runtime
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.pipeline.tracking import live_curves
from genrec.sequences.batches import training_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.training.base import BaseTrainer
from genrec.training.config import RankingConfig
from genrec.training.stage import TrainingStage

HISTORIES = Path("data/prepared/histories.npz")
CODE_TABLE = Path("data/code_table.npy")
MODEL = Path("data/models/tiger.ckpt")
METRICS = Path("reports/train_tiger/metrics.json")
CURVES = Path("reports/train_tiger/history.csv")


def main() -> None:
    shape, config, seed = read_section(Model), read_section(TrainTiger), read_seed()
    stage = TrainingStage("train_tiger", read_section(Trainer), read_section(Runtime), seed, live_curves("train_tiger"))
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
        itemwise=size.encoder == "items",
        decoder_dropout=size.decoder_dropout,
        item_vectors=config.dense_loss_weight > 0,
        learns_repeats=size.learns_repeats,
        dense_loss_weight=config.dense_loss_weight,
        num_negatives=config.num_negatives,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        schedule=config.schedule,
        n_beams=config.n_beams,
    )
    model.set_code_table(load_code_table(CODE_TABLE, histories.n_items, shape.code_num, shape.num_levels))
    with stage.scratch([shape, config], [HISTORIES, CODE_TABLE]) as folder:
        training = stage.config(
            RankingConfig,
            folder,
            max_epochs=config.max_epochs,
            val_check_interval=config.validate_every,
            early_stopping_patience=config.patience,
        )
        BaseTrainer(model, training, stage.logger).train(
            training_loader(
                histories,
                size.encoder,
                size.max_history,
                config.batch_size,
                seed,
                config.windows_per_epoch,
                config.shuffles_ties,
            ),  # fmt: skip
            window_loader(histories, "validation", size.max_history, config.batch_size, seed),
        )
        stage.end_others()
        stage.write(model, MODEL, CURVES, METRICS, stage.logger.summary("val_ndcg_at_10", "max"))


if __name__ == "__main__":
    run_stage(main, __doc__)
