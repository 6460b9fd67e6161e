"""Train ETEGRec: tokenizer and recommender in turns, then the recommender alone, with a code table of its own."""

from pathlib import Path

import torch

from genrec.codes.code_table import save_code_table
from genrec.codes.item_embeddings import load_embeddings
from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.generators.etegrec import TrainEtegrec
from genrec.models.etegrec.module import ETEGRec
from genrec.models.etegrec.trainer import ETEGRecTrainer, ETEGRecTrainingConfig
from genrec.params.reading import read_section, read_seed
from genrec.params.runtime import Runtime
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.pipeline.tracking import live_curves
from genrec.sequences.batches import training_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import load_arguments, load_model
from genrec.training.stage import TrainingStage

HISTORIES = Path("data/prepared/histories.npz")
EMBEDDINGS = Path("data/item_embeddings.npy")
TOKENIZER = Path("data/models/rqvae.ckpt")
MODEL = Path("data/models/etegrec.ckpt")
CODE_TABLE = Path("data/etegrec_code_table.npy")
METRICS = Path("reports/train_etegrec/metrics.json")
CURVES = Path("reports/train_etegrec/history.csv")


def main() -> None:
    config, seed = read_section(TrainEtegrec), read_seed()
    stage = TrainingStage(
        "train_etegrec", read_section(Trainer), read_section(Runtime), seed, live_curves("train_etegrec")
    )
    histories = Histories.load(HISTORIES)
    embeddings = torch.from_numpy(load_embeddings(EMBEDDINGS, histories.n_items))
    tokenizer = load_model(RqVaeNetwork, TOKENIZER, input_dim=embeddings.shape[1])
    size, starts_anew = config.generator, config.variant == "no_end_to_end"
    model = ETEGRec(
        n_items=histories.n_items,
        tokenizer=load_arguments(TOKENIZER),
        embedding_dim=size.embedding_dim,
        num_heads=size.num_heads,
        head_dim=size.head_dim,
        attn_dim=size.attn_dim,
        num_layers=size.num_layers,
        dropout=size.dropout,
        max_history=size.max_history,
        causal=size.encoder == "causal",
        itemwise=size.encoder == "items",
        decoder_dropout=size.decoder_dropout,
        learns_repeats=size.learns_repeats,
        learning_rate=config.learning_rate,
        tokenizer_learning_rate=config.tokenizer_learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        sia_weight=0.0 if config.variant in ("no_sia", "no_alignment") else config.sia_weight,
        psa_weight=0.0 if config.variant in ("no_psa", "no_alignment") else config.psa_weight,
        sia_sign=config.sia_sign,
        alpha=config.alpha,
        cycle=config.cycle,
        alternates=config.variant != "no_alternation",
        warmup_epochs=config.warmup_epochs,
        final_learning_rate=config.learning_rate if starts_anew else config.final_stage.learning_rate,
        n_beams=config.n_beams,
    )
    model.start_from(tokenizer, embeddings)
    with stage.scratch([config], [HISTORIES, EMBEDDINGS, TOKENIZER]) as folder:
        training = stage.config(
            ETEGRecTrainingConfig,
            folder,
            max_epochs=config.max_epochs,
            early_stopping_patience=config.patience,
            final_starts_anew=starts_anew,
            final_max_epochs=final_epochs(config, starts_anew),
            final_early_stopping_patience=config.final_stage.patience,
        )
        etegrec_trainer = ETEGRecTrainer(model, training, stage.logger)
        etegrec_trainer.train(
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
        save_code_table(model.generator.code_table, CODE_TABLE)
        stage.write(model, MODEL, CURVES, METRICS, etegrec_trainer.summary())


def final_epochs(config: TrainEtegrec, starts_anew: bool) -> int:
    """A recommender that starts anew gets as many epochs more as the joint stage gave its own."""
    of_recommender = config.max_epochs - config.max_epochs // config.cycle
    return config.final_stage.max_epochs + starts_anew * of_recommender


if __name__ == "__main__":
    run_stage(main, __doc__)
