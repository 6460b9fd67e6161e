"""Configs, kinds, parts and results of genrec.trainers and genrec.models.rqvae; signatures: test_public_names.py."""

import ast
import dataclasses
from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import nn
from torch.utils.data import DataLoader

import genrec
import genrec.trainers
from genrec.models import rqvae
from genrec.models.rqvae import RqVae

TRAINING = {
    "max_epochs": 100,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "gpus": 1 if torch.cuda.is_available() else 0,
    "precision": 32,
    "num_workers": 4,
    "gradient_clip_val": 1.0,
    "accumulate_grad_batches": 1,
    "val_check_interval": 1.0,
    "checkpoint_dir": "checkpoints",
    "log_dir": "logs",
    "experiment_name": "experiment",
    "version": None,
    "save_top_k": 3,
    "early_stopping_patience": 10,
    "deterministic": True,
    "random_seed": 42,
    "progress_bar": True,
    "run_test": True,
}
RQVAE = TRAINING | {
    "input_dim": 768,
    "hidden_dim": 512,
    "latent_dim": 256,
    "num_embeddings": 1024,
    "commitment_cost": 0.25,
    "learning_rate": 1e-3,
    "batch_size": 64,
    "max_epochs": 100,
    "dataset_name": "p5_amazon",
    "dataset_split": "beauty",
    "eval_reconstruction": True,
    "eval_quantization": True,
}
TIGER = TRAINING | {
    "vocab_size": 1024,
    "embedding_dim": 512,
    "num_heads": 8,
    "num_layers": 6,
    "attn_dim": 2048,
    "dropout": 0.1,
    "max_seq_length": 100,
    "learning_rate": 1e-4,
    "batch_size": 16,
    "max_epochs": 50,
    "max_generation_length": 50,
    "generation_temperature": 1.0,
    "generation_top_k": 50,
    "generation_top_p": 0.9,
    "dataset_name": "p5_amazon",
    "dataset_split": "beauty",
    "pretrained_rqvae_path": "checkpoints/rqvae.ckpt",
    "eval_generation": True,
    "eval_k_values": [5, 10, 20],
}
CONFIGS = {"TrainingConfig": TRAINING, "RQVAETrainingConfig": RQVAE, "TIGERTrainingConfig": TIGER}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_has_the_documents_names_and_defaults(name):
    config = getattr(genrec.trainers, name)()
    assert {field: getattr(config, field) for field in CONFIGS[name]} == CONFIGS[name]
    assert dataclasses.is_dataclass(config)
    assert isinstance(config, genrec.trainers.TrainingConfig)


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_share_no_list(name):
    kind = getattr(genrec.trainers, name)
    first, second = kind(), kind()
    for field, value in CONFIGS[name].items():
        if isinstance(value, list):
            assert getattr(first, field) is not getattr(second, field)


def test_a_config_looks_for_gpus_when_it_is_made_and_not_when_it_is_imported(monkeypatch):
    # else one that was pickled or imported elsewhere would be told of GPUs that are not there
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert genrec.trainers.TrainingConfig().gpus == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert genrec.trainers.TrainingConfig().gpus == 0


def test_the_classes_are_of_the_kinds_that_the_documents_name():
    assert issubclass(RqVae, LightningModule)
    assert all(issubclass(kind, nn.Module) for kind in (rqvae.VectorQuantizer, rqvae.Encoder, rqvae.Decoder))
    for name in ("RQVAETrainer", "TIGERTrainer", "ETEGRecTrainer"):
        assert issubclass(getattr(genrec.trainers, name), genrec.trainers.BaseTrainer)


def test_the_facade_has_every_trainer_and_its_config():
    folder = Path(genrec.__file__).parent
    classes = {
        node.name
        for file in folder.rglob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    named = {name for name in classes if name.endswith(("Trainer", "TrainingConfig"))}
    # the section of params.yaml, and what others are made of
    assert set(genrec.trainers.__all__) == named - {"Trainer", "DatasetTrainer", "TaskTrainer"}


def test_a_model_has_the_parts_that_the_documents_name():
    model = RqVae(input_dim=6, hidden_dim=8, latent_dim=4, num_embeddings=16, learning_rate=0.5)
    assert isinstance(model.encoder, rqvae.Encoder)
    assert isinstance(model.decoder, rqvae.Decoder)
    assert (model.quantizer.num_embeddings, model.learning_rate) == (16, 0.5)


@pytest.mark.parametrize(("num_levels", "shape"), [(1, (10,)), (3, (10, 3))])
def test_a_model_gives_what_the_documents_say(num_levels, shape):
    model = RqVae(input_dim=6, hidden_dim=8, latent_dim=4, num_embeddings=16, num_levels=num_levels)
    features = torch.randn(10, 6)
    reconstructed, commitment_loss, embedding_loss, semantic_ids = model(features)
    assert [tuple(value.shape) for value in (reconstructed, commitment_loss, embedding_loss, semantic_ids)] == [
        (10, 6), (), (), shape,
    ]  # fmt: skip
    assert tuple(model.encode(features).shape) == (10, 4)
    assert tuple(model.generate_semantic_ids(features).shape) == shape
    assert semantic_ids.dtype == model.generate_semantic_ids(features).dtype == torch.int64
    loader = DataLoader([{"features": row} for row in features], batch_size=4)
    assert tuple(rqvae.batch_inference(model, loader).shape) == shape
    assert {"mse", "rmse"} <= rqvae.evaluate_reconstruction(model, loader).keys()
    assert {"usage_rate", "unique_codes", "perplexity"} <= rqvae.evaluate_quantization(model, loader).keys()


def test_the_parts_give_what_the_documents_say():
    quantized, commitment_loss, embedding_loss, codes = rqvae.VectorQuantizer(16, 4)(torch.randn(10, 4))
    assert [tuple(value.shape) for value in (quantized, commitment_loss, embedding_loss, codes)] == [
        (10, 4), (), (), (10,),
    ]  # fmt: skip
    assert tuple(rqvae.Encoder(6, 8, 4)(torch.randn(10, 6)).shape) == (10, 4)
    assert tuple(rqvae.Decoder(4, 8, 6)(torch.randn(10, 4)).shape) == (10, 6)
