"""TIGER and ETEGRec for `benchmarks.quality`: the codes of a SASRec's items, the models, and what they search."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.codes.code_table import build_code_table
from genrec.data.embeddings import standardize
from genrec.generation.generated_items import GeneratedItems
from genrec.models.etegrec.module import ETEGRec
from genrec.models.etegrec.trainer import ETEGRecTrainer, ETEGRecTrainingConfig
from genrec.models.rqvae import RqVae
from genrec.models.tiger import Tiger
from genrec.retrieval.ranking import search_users
from genrec.sequences.batches import row_loader
from genrec.sequences.histories import EVALUATED_SPLITS, Histories, Split
from genrec.training.base import BaseTrainer
from genrec.training.config import RankingConfig, TrainingConfig
from genrec.training.curves import CurveLogger

LEVELS, CODE_NUM, KMEANS_ITERATIONS = 3, 256, 25
BEAMS = 50
# one network for both: a trunk over items, a decoder over an item's codes
NETWORK = {"embedding_dim": 128, "num_heads": 4, "num_layers": 2, "attn_dim": 512, "head_dim": 32, "dropout": 0.4,
           "itemwise": True, "decoder_dropout": 0.1, "learns_repeats": True, "n_beams": 20, "learning_rate": 1e-3,
           "weight_decay": 0.05, "warmup_steps": 500}  # fmt: skip
TIGER = {**NETWORK, "tokenizer": "rqkmeans", "item_vectors": True, "dense_loss_weight": 1.0, "num_negatives": 2048,
         "schedule": "cosine", "epochs": 30, "validate_every": 2, "patience": 4}  # fmt: skip
ETEGREC = {**NETWORK, "tokenizer": "rqvae", "cycle": 4, "warmup_epochs": 4, "epochs": 24, "final_epochs": 8,
           "patience": 3}  # fmt: skip
RQVAE = {"hidden_dim": [128], "latent_dim": 32, "learning_rate": 1e-3, "weight_decay": 1e-4}
RQVAE_EPOCHS, RQVAE_BATCH = 200, 1024


def tokenized(kind: str, vectors: NDArray[np.float32], seed: int, folder: Path) -> tuple[RqVae, torch.Tensor]:
    """A tokenizer, `rqkmeans` or `rqvae`, and the embeddings that it codes: each dimension of variance 1.

    Args:
        vectors: (n_items + 1, dim), row = item_id, row 0 = padding.
        folder: for checkpoints.
    """
    embeddings = torch.from_numpy(standardize(vectors))
    features = embeddings[1:]
    shape = {"input_dim": features.shape[1], "num_embeddings": CODE_NUM, "num_levels": LEVELS}
    model = RqVae(**shape, **({"hidden_dim": None} if kind == "rqkmeans" else RQVAE))
    model.initialize_codebooks(features, KMEANS_ITERATIONS, seed)
    if kind == "rqvae":
        config = TrainingConfig(
            max_epochs=RQVAE_EPOCHS, val_check_interval=10, monitor="val_selection", early_stopping_patience=0,
            save_top_k=1, gpus=0, random_seed=seed, checkpoint_dir=str(folder / "tokenizer"), progress_bar=False,
        )  # fmt: skip
        whole_catalogue = row_loader(features, len(features), seed)
        BaseTrainer(model, config, CurveLogger()).train(row_loader(features, RQVAE_BATCH, seed), whole_catalogue)
    return model.eval(), embeddings


def tiger(
    n_items: int, max_history: int, options: dict[str, Any], vectors: NDArray[np.float32], seed: int, folder: Path
) -> Tiger:
    """TIGER on the codes of some vectors; the fourth code tells items of equal ones apart."""
    settings = dict(options)
    tokenizer, embeddings = tokenized(settings.pop("tokenizer"), vectors, seed, folder)
    table = build_code_table(tokenizer.semantic_codes(embeddings[1:]), CODE_NUM)
    torch.manual_seed(seed)
    length = LEVELS + 1
    model = Tiger(
        1 + length * CODE_NUM, max_seq_length=max_history * length, code_length=length, n_items=n_items, **settings
    )
    model.set_code_table(table)
    return model


def etegrec(
    n_items: int, max_history: int, options: dict[str, Any], vectors: NDArray[np.float32], seed: int, folder: Path
) -> ETEGRec:
    """ETEGRec, whose tokenizer begins with the codes of some vectors and is trained on."""
    settings = dict(options)
    tokenizer, embeddings = tokenized(settings.pop("tokenizer"), vectors, seed, folder)
    torch.manual_seed(seed)
    model = ETEGRec(n_items, dict(tokenizer.hparams), max_history=max_history, **settings)
    model.start_from(tokenizer, embeddings)
    return model


def trainer_of(model: Any, final_epochs: int, curves: CurveLogger, **settings: Any) -> BaseTrainer:
    """What trains a model of the benchmark; ETEGRec has a second stage, of `final_epochs`."""
    if isinstance(model, ETEGRec):
        patience = settings["early_stopping_patience"]
        own = {"final_max_epochs": final_epochs, "final_early_stopping_patience": patience}
        return ETEGRecTrainer(model, ETEGRecTrainingConfig(**settings, **own), curves)
    return BaseTrainer(model, RankingConfig(**settings), curves)


def searched(model: Tiger | ETEGRec, histories: Histories, max_history: int) -> dict[Split, GeneratedItems]:
    """What the search finds for each user of validation and test."""
    return {
        split: search_users(
            lambda history: model.generator.generate(history, BEAMS), histories, split, max_history, 256, False
        )
        for split in EVALUATED_SPLITS
    }
