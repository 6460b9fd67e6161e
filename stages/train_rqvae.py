"""Fit the tokenizer to the item embeddings, an RQ-VAE or residual k-means, and refuse one that has collapsed."""

from pathlib import Path

import torch

from genrec.codes.code_table import check_capacity
from genrec.codes.item_embeddings import load_embeddings
from genrec.codes.tokenizer.code_health import check_gates, code_health
from genrec.codes.tokenizer.rqvae import ROWS
from genrec.models.rqvae import RqVae
from genrec.params.model import Model
from genrec.params.reading import read_section, read_seed
from genrec.params.runtime import Runtime
from genrec.params.train_rqvae import TrainRqvae
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.pipeline.tracking import live_curves
from genrec.sequences.batches import row_loader
from genrec.training.base import BaseTrainer
from genrec.training.config import TrainingConfig
from genrec.training.stage import TrainingStage

EMBEDDINGS = Path("data/item_embeddings.npy")
MODEL = Path("data/models/rqvae.ckpt")
METRICS = Path("reports/train_rqvae/metrics.json")
CURVES = Path("reports/train_rqvae/history.csv")


def main() -> None:
    shape, config, seed = read_section(Model), read_section(TrainRqvae), read_seed()
    stage = TrainingStage("train_rqvae", read_section(Trainer), read_section(Runtime), seed, live_curves("train_rqvae"))
    features = torch.from_numpy(load_embeddings(EMBEDDINGS))[1:]
    check_capacity(len(features), shape.code_num, shape.num_levels, config.gates.max_collision_rate)
    model = RqVae(
        input_dim=features.shape[1],
        hidden_dim=config.hidden_dims if config.tokenizer == "rqvae" else None,
        latent_dim=config.latent_dim,
        num_embeddings=shape.code_num,
        commitment_cost=config.commitment_cost,
        learning_rate=config.learning_rate,
        num_levels=shape.num_levels,
        weight_decay=config.weight_decay,
        quantizer=config.quantizer,
    )
    model.initialize_codebooks(features, config.kmeans_iterations, seed)
    with stage.scratch([shape, config], [EMBEDDINGS]) as folder:
        if config.tokenizer == "rqvae":
            training = stage.config(
                TrainingConfig,
                folder,
                max_epochs=config.max_epochs,
                val_check_interval=config.validate_every,
                monitor="val_selection",
                early_stopping_patience=0,
                save_top_k=1,
            )
            whole_catalogue = row_loader(features, min(len(features), ROWS), seed)
            BaseTrainer(model, training, stage.logger).train(
                row_loader(features, config.batch_size, seed), whole_catalogue
            )
        stage.end_others()
        model.eval()
        health = code_health(model.semantic_codes(features), shape.code_num)
        error = {"reconstruction_error": model.reconstruction_error(features)}
        stage.write(model, MODEL, CURVES, METRICS, {**health, **error})
        gates = config.gates
        check_gates(health, gates.min_usage, gates.min_entropy, gates.max_collision_rate)


if __name__ == "__main__":
    run_stage(main, __doc__)
