"""Train parallel semantic IDs: a softmax over items that are nothing but their digits."""

from pathlib import Path

from genrec.generators.parallel import TrainParallel
from genrec.models.parallel import Parallel, load_digits
from genrec.params.build_digits import BuildDigits
from genrec.params.reading import read_section, read_seed
from genrec.params.runtime import Runtime
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.pipeline.tracking import live_curves
from genrec.sequences.batches import segment_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.training.base import BaseTrainer
from genrec.training.config import RankingConfig
from genrec.training.stage import TrainingStage

HISTORIES = Path("data/prepared/histories.npz")
DIGITS = Path("data/digits.npy")
MODEL = Path("data/models/parallel.ckpt")
METRICS = Path("reports/train_parallel/metrics.json")
CURVES = Path("reports/train_parallel/history.csv")


def main() -> None:
    code_num, config, seed = read_section(BuildDigits).code_num, read_section(TrainParallel), read_seed()
    stage = TrainingStage(
        "train_parallel", read_section(Trainer), read_section(Runtime), seed, live_curves("train_parallel")
    )
    histories = Histories.load(HISTORIES)
    digits = load_digits(DIGITS, histories.n_items, code_num)
    model = Parallel(
        n_items=histories.n_items,
        num_digits=digits.shape[1],
        code_num=code_num,
        embedding_dim=config.embedding_dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        dropout=config.dropout,
        max_history=config.max_history,
        learns_repeats=config.learns_repeats,
        num_negatives=config.num_negatives,
        digit_loss_weight=config.digit_loss_weight,
        num_trained_digits=config.num_trained_digits,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        warmup_steps=config.warmup_steps,
    )
    model.set_digits(digits)
    with stage.scratch([code_num, config], [HISTORIES, DIGITS]) as folder:
        training = stage.config(
            RankingConfig, folder, max_epochs=config.max_epochs, early_stopping_patience=config.patience
        )
        BaseTrainer(model, training, stage.logger).train(
            segment_loader(histories, config.max_history, config.batch_size, seed, config.shuffles_ties),
            window_loader(histories, "validation", config.max_history, config.batch_size, seed),
        )
        stage.end_others()
        stage.write(model, MODEL, CURVES, METRICS, stage.logger.summary("val_ndcg_at_10", "max"))


if __name__ == "__main__":
    run_stage(main, __doc__)
