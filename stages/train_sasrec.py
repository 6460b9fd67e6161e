"""Train SASRec on the histories: the strong sequential baseline, and the source of the item embeddings."""

from pathlib import Path

import torch
from torch import Tensor

from genrec.generators.sasrec import TrainSasrec
from genrec.models.sasrec import SASRec
from genrec.params.extract_embeddings import ExtractEmbeddings, Words
from genrec.params.reading import read_section, read_seed
from genrec.params.runtime import Runtime
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.pipeline.tracking import live_curves
from genrec.sequences.batches import segment_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.storage.output import read_parquet
from genrec.training.base import BaseTrainer
from genrec.training.config import RankingConfig
from genrec.training.stage import TrainingStage

HISTORIES = Path("data/prepared/histories.npz")
ITEMS = Path("data/prepared/items.parquet")
MODEL = Path("data/models/sasrec.ckpt")
METRICS = Path("reports/train_sasrec/metrics.json")
CURVES = Path("reports/train_sasrec/history.csv")


def main() -> None:
    config, words, seed = read_section(TrainSasrec), read_section(ExtractEmbeddings).words, read_seed()
    stage = TrainingStage(
        "train_sasrec", read_section(Trainer), read_section(Runtime), seed, live_curves("train_sasrec")
    )
    histories = Histories.load(HISTORIES)
    content = word_vectors(words) if config.adds_words else None
    model = SASRec(
        n_items=histories.n_items,
        embedding_dim=config.embedding_dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        dropout=config.dropout,
        max_history=config.max_history,
        loss=config.loss,
        num_negatives=config.num_negatives,
        sparse_items=config.sparse_items,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        input_norm=config.input_norm,
        learns_repeats=config.learns_repeats,
        content_dim=0 if content is None else content.shape[1],
        schedule=config.schedule,
        warmup_steps=config.warmup_steps,
    )
    if content is not None:
        model.set_content(content)
    with stage.scratch([config, words], [HISTORIES, ITEMS]) as folder:
        training = stage.config(
            RankingConfig, folder, max_epochs=config.max_epochs, early_stopping_patience=config.patience
        )
        BaseTrainer(model, training, stage.logger).train(
            segment_loader(histories, config.max_history, config.batch_size, seed, config.shuffles_ties),
            window_loader(histories, "validation", config.max_history, config.batch_size, seed),
        )
        stage.end_others()
        stage.write(model, MODEL, CURVES, METRICS, stage.logger.summary("val_ndcg_at_10", "max"))


def word_vectors(words: Words) -> Tensor:
    """(n_items + 1, dim) float32, row 0 = padding; the SVD's start is the same for all seeds of the training."""
    from genrec.data.words import embed_words, join_embeddings  # here: most SASRecs need none

    vectors = embed_words(read_parquet(ITEMS), words.columns, words.dim, seed=0).vectors
    return torch.from_numpy(join_embeddings([vectors]))


if __name__ == "__main__":
    run_stage(main, __doc__)
