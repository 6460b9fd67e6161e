"""Fit the tokenizer to the item embeddings, an RQ-VAE or residual k-means, and refuse one that has collapsed."""

from pathlib import Path

import torch

from genrec.codes.code_table import check_capacity
from genrec.codes.tokenizer.code_health import check_gates, code_health
from genrec.data.embeddings import load_embeddings
from genrec.models.rqvae import ROWS, RqVae
from genrec.params import Model, Runtime, Trainer, TrainRqvae, read_section, read_seed
from genrec.pipeline.command import run_stage
from genrec.pipeline.tracking import live_curves
from genrec.sequences.batches import row_loader
from genrec.storage.checkpoint import save_model
from genrec.storage.output import write_metrics
from genrec.training.base import BaseTrainer, check_gpus
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger, write_curves
from genrec.training.precision import precision_figure, resolve_precision
from genrec.training.scratch import scratch

EMBEDDINGS = Path("data/item_embeddings.npy")
MODEL = Path("data/models/rqvae.ckpt")
METRICS = Path("reports/train_rqvae/metrics.json")
CURVES = Path("reports/train_rqvae/history.csv")


def main() -> None:
    shape, config, trainer, runtime, seed = (
        read_section(Model),
        read_section(TrainRqvae),
        read_section(Trainer),
        read_section(Runtime),
        read_seed(),
    )
    check_gpus(trainer.gpus, "trainer.gpus")
    torch.set_num_threads(trainer.num_threads)
    precision = resolve_precision(trainer.precision, trainer.gpus)
    torch.manual_seed(seed)
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
    logger = CurveLogger(live_curves("train_rqvae"))
    with scratch("train_rqvae", [shape, config, trainer, precision, seed], [EMBEDDINGS]) as folder:
        if config.tokenizer == "rqvae":
            training = TrainingConfig(
                experiment_name="train_rqvae",
                max_epochs=config.max_epochs,
                val_check_interval=config.validate_every,
                monitor="val_selection",
                early_stopping_patience=0,
                save_top_k=1,
                gpus=trainer.gpus,
                precision=precision,
                random_seed=seed,
                progress_bar=runtime.progress_bar,
                checkpoint_dir=str(folder),
                resume=True,
            )
            whole_catalogue = row_loader(features, min(len(features), ROWS), seed)
            BaseTrainer(model, training, logger).train(row_loader(features, config.batch_size, seed), whole_catalogue)
        model.eval()
        health = code_health(model.semantic_codes(features), shape.code_num)
        save_model(model, MODEL)
        write_curves(logger.rows, CURVES)
        error = {"reconstruction_error": model.reconstruction_error(features)}
        write_metrics({**health, **error, **precision_figure(trainer.precision, precision)}, METRICS)
        gates = config.gates
        check_gates(health, gates.min_usage, gates.min_entropy, gates.max_collision_rate)


if __name__ == "__main__":
    run_stage(main, __doc__)
