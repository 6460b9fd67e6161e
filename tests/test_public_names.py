"""The public names of the documents: each is called as they call it and returns what they say.

Each room has up to three tables, `SIGNATURES`, `ATTRIBUTES` and `RETURNS`; the tests walk all. What needs data,
training or more than a call stands in test_public_names_<room>.py.
"""

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genrec.data
import genrec.modules
import genrec.trainers
from genrec import modules

IDS = torch.zeros(2, 5, dtype=torch.long)
LISTS = [[1, 2], [3, 4]]

# The parameters in their order, with the defaults; what stands behind `*` is ours.
SIGNATURES_MODULES = {
    "genrec.modules.TransformerEncoder": (
        "vocab_size, embedding_dim, num_heads, num_layers, attn_dim, dropout=0.1, max_seq_length=1024"
    ),
    "genrec.modules.TransformerEncoder.forward": "self, input_ids, attention_mask=None",
    "genrec.modules.PositionalEncoding": "embedding_dim, max_seq_length=5000",
    "genrec.modules.PositionalEncoding.forward": "self, x",
    "genrec.modules.MultiHeadAttention": "embedding_dim, num_heads, dropout=0.1",
    "genrec.modules.MultiHeadAttention.forward": "self, query, key, value, mask=None",
    "genrec.modules.VQVAELoss": "commitment_cost=0.25, beta=1.0",
    "genrec.modules.VQVAELoss.forward": "self, x, x_recon, commitment_loss, embedding_loss",
    "genrec.modules.SequenceLoss": "vocab_size, ignore_index=-100, label_smoothing=0.0",
    "genrec.modules.SequenceLoss.forward": "self, logits, labels, attention_mask=None",
    "genrec.modules.ContrastiveLoss": "temperature=0.1, margin=0.2",
    "genrec.modules.ContrastiveLoss.forward": "self, anchor, positive, negative",
    "genrec.modules.RecommendationMetrics.recall_at_k": "predictions, targets, k",
    "genrec.modules.RecommendationMetrics.precision_at_k": "predictions, targets, k",
    "genrec.modules.RecommendationMetrics.ndcg_at_k": "predictions, targets, k",
    "genrec.modules.RecommendationMetrics.hit_rate_at_k": "predictions, targets, k",
    "genrec.modules.RecommendationMetrics.coverage": "predictions, total_items",
    "genrec.modules.RecommendationMetrics.diversity": "predictions",
    "genrec.modules.AttentionVisualization.plot_attention_heatmap": (
        "attention_weights, input_tokens, output_tokens, save_path=None"
    ),
    "genrec.modules.ModelUtils.count_parameters": "model",
    "genrec.modules.ModelUtils.get_model_size": "model",
    "genrec.modules.ModelUtils.freeze_layers": "model, layer_names",
    "genrec.modules.ModelUtils.unfreeze_layers": "model, layer_names",
    "genrec.modules.ModelUtils.initialize_weights": "model, init_type='xavier'",
}
SIGNATURES_RQVAE = {
    "genrec.models.rqvae.RqVae": (
        "input_dim=768, hidden_dim=512, latent_dim=256, num_embeddings=1024, commitment_cost=0.25, learning_rate=0.001,"
        " *, num_levels=1, weight_decay=0.0, quantization_weight=1.0, quantizer='straight_through'"
    ),
    "genrec.models.rqvae.RqVae.forward": "self, features",
    "genrec.models.rqvae.RqVae.encode": "self, features",
    "genrec.models.rqvae.RqVae.generate_semantic_ids": "self, features",
    "genrec.models.rqvae.RqVae.semantic_codes": "self, features",
    "genrec.models.rqvae.RqVae.training_step": "self, batch, batch_idx",
    "genrec.models.rqvae.RqVae.validation_step": "self, batch, batch_idx",
    "genrec.models.rqvae.RqVae.test_step": "self, batch, batch_idx",
    "genrec.models.rqvae.RqVae.configure_optimizers": "self",
    "genrec.models.rqvae.RqVae.save_pretrained": "self, path",
    "genrec.models.rqvae.RqVae.from_pretrained": "path",
    "genrec.models.rqvae.VectorQuantizer": "num_embeddings, embedding_dim, commitment_cost=0.25",
    "genrec.models.rqvae.VectorQuantizer.forward": "self, inputs",
    "genrec.models.rqvae.Encoder": "input_dim, hidden_dim, latent_dim",
    "genrec.models.rqvae.Decoder": "latent_dim, hidden_dim, output_dim",
    "genrec.models.rqvae.batch_inference": "model, dataloader, device='cuda'",
    "genrec.models.rqvae.evaluate_reconstruction": "model, dataloader, device='cuda'",
    "genrec.models.rqvae.evaluate_quantization": "model, dataloader, device='cuda'",
}
SIGNATURES_TRAINERS = {
    "genrec.training.base.BaseTrainer": "model, config, logger=None",
    "genrec.training.base.BaseTrainer._create_default_logger": "self",
    "genrec.training.base.BaseTrainer.setup_trainer": "self",
    "genrec.training.base.BaseTrainer.train": "self, train_dataloader, val_dataloader=None",
    "genrec.training.base.BaseTrainer.test": "self, test_dataloader",
    "genrec.trainers.rqvae.RQVAETrainer": "model, config, dataset, logger=None",
    "genrec.trainers.rqvae.RQVAETrainer.create_dataloaders": "self",
    "genrec.trainers.rqvae.RQVAETrainer.train_model": "self",
    "genrec.trainers.rqvae.RQVAETrainer.evaluate_reconstruction": "self, test_dataloader",
    "genrec.trainers.rqvae.RQVAETrainer.generate_semantic_ids": "self, dataloader",
    "genrec.trainers.tiger.TIGERTrainer": "model, config, dataset, logger=None",
    "genrec.trainers.tiger.TIGERTrainer._create_collate_fn": "self",
    "genrec.trainers.tiger.TIGERTrainer.create_dataloaders": "self",
    "genrec.trainers.tiger.TIGERTrainer.train_model": "self",
    "genrec.trainers.tiger.TIGERTrainer.evaluate_generation": "self, test_dataloader, k_values=(5, 10, 20)",
    "genrec.trainers.tiger.TIGERTrainer._compute_recall_at_k": "self, predictions, targets, k",
    "genrec.trainers.tiger.TIGERTrainer._compute_ndcg_at_k": "self, predictions, targets, k",
    "genrec.models.etegrec.trainer.ETEGRecTrainer": "model, config, logger=None",
}
SIGNATURES_TIGER = {
    "genrec.models.tiger.Tiger": (
        "vocab_size, embedding_dim=512, num_heads=8, num_layers=6, attn_dim=2048, dropout=0.1, max_seq_length=1024,"
        " learning_rate=0.0001, *, code_length=4, n_items=0, head_dim=None, causal=False, itemwise=False,"
        " decoder_dropout=0.1, item_vectors=False, learns_repeats=False, dense_loss_weight=0.0, num_negatives=2048,"
        " weight_decay=0.0, warmup_steps=0, schedule='constant', n_beams=20"
    ),
    "genrec.models.tiger.Tiger.forward": "self, input_ids, attention_mask=None",
    "genrec.models.tiger.Tiger.generate": (
        "self, input_ids, max_length=50, temperature=1.0, top_k=None, top_p=None, *, n_beams=None, random=None"
    ),
    "genrec.models.tiger.Tiger.training_step": "self, batch, batch_idx",
    "genrec.models.tiger.Tiger.validation_step": "self, batch, batch_idx",
    "genrec.models.tiger.Tiger.test_step": "self, batch, batch_idx",
}
SIGNATURES_DATA = {
    "genrec.data.p5_amazon.P5AmazonItemDataset": (
        "root, split='beauty', train_test_split='all', return_text=False, **settings"
    ),
    "genrec.data.p5_amazon.P5AmazonSequenceDataset": (
        "root, split='beauty', train_test_split='train', pretrained_rqvae_path=None, **settings"
    ),
    "genrec.data.base_dataset.ItemDataset": "base_dataset, split='all', return_text=False",
    "genrec.data.base_dataset.SequenceDataset": "base_dataset, split='train', semantic_encoder=None",
    "genrec.data.dataset_factory.DatasetFactory.register_dataset": "name, base_class, item_class, sequence_class",
    "genrec.data.dataset_factory.DatasetFactory.list_datasets": "",
    "genrec.data.dataset_factory.DatasetFactory.get_dataset_info": "name",
    "genrec.data.dataset_factory.DatasetFactory.create_base_dataset": "name, *, root, **settings",
    "genrec.data.dataset_factory.DatasetFactory.create_item_dataset": "name, **settings",
    "genrec.data.dataset_factory.DatasetFactory.create_sequence_dataset": "name, **settings",
    "genrec.data.configs.TextEncodingConfig.get_cache_key": "self, split, model_name=None",
    "genrec.data.configs.TextEncodingConfig.format_text": "self, item_data",
    "genrec.data.configs.DataProcessingConfig.get_split_indices": "self, total_size",
}

# What an object has besides its methods.
ATTRIBUTES_MODULES: dict[str, tuple[Callable[[], Any], str]] = {
    "TransformerEncoder": (
        lambda: modules.TransformerEncoder(9, 8, 2, 1, 16), "embedding, pos_encoding, transformer, dropout"
    ),
    "PositionalEncoding": (lambda: modules.PositionalEncoding(8), "pe"),
    "MultiHeadAttention": (
        lambda: modules.MultiHeadAttention(8, 2), "embedding_dim, num_heads, head_dim, w_q, w_k, w_v, w_o, dropout"
    ),
    "VQVAELoss": (modules.VQVAELoss, "commitment_cost, beta"),
    "SequenceLoss": (lambda: modules.SequenceLoss(9), "vocab_size, ignore_index, label_smoothing"),
    "ContrastiveLoss": (modules.ContrastiveLoss, "temperature, margin"),
}  # fmt: skip

# A call, and what it returns: a tensor as its shape, several results as a list, others as their type.
RETURNS_MODULES: dict[str, tuple[Callable[[], Any], Any]] = {
    "TransformerEncoder": (lambda: modules.TransformerEncoder(9, 8, 2, 1, 16)(IDS, torch.ones(2, 5)), (2, 5, 8)),
    "PositionalEncoding": (lambda: modules.PositionalEncoding(8)(torch.zeros(2, 5, 8)), (2, 5, 8)),
    "MultiHeadAttention": (
        lambda: modules.MultiHeadAttention(8, 2)(torch.ones(3, 4, 8), *[torch.ones(3, 5, 8)] * 2, torch.ones(3, 4, 5)),
        [(3, 4, 8), (3, 2, 4, 5)],
    ),
    "VQVAELoss": (
        lambda: modules.VQVAELoss()(torch.zeros(2, 3), torch.ones(2, 3), torch.tensor(1.0), torch.tensor(1.0)),
        {"total_loss": (), "reconstruction_loss": (), "commitment_loss": (), "embedding_loss": ()},
    ),
    "SequenceLoss": (lambda: modules.SequenceLoss(9)(torch.zeros(2, 5, 9), IDS), {"loss": (), "accuracy": ()}),
    "ContrastiveLoss": (
        lambda: modules.ContrastiveLoss()(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 4, 3)), ()
    ),
    "recall_at_k": (lambda: modules.RecommendationMetrics.recall_at_k(LISTS, LISTS, 2), float),
    "precision_at_k": (lambda: modules.RecommendationMetrics.precision_at_k(LISTS, LISTS, 2), float),
    "ndcg_at_k": (lambda: modules.RecommendationMetrics.ndcg_at_k(LISTS, LISTS, 2), float),
    "hit_rate_at_k": (lambda: modules.RecommendationMetrics.hit_rate_at_k(LISTS, LISTS, 2), float),
    "coverage": (lambda: modules.RecommendationMetrics.coverage(LISTS, 9), float),
    "diversity": (lambda: modules.RecommendationMetrics.diversity(LISTS), float),
    "count_parameters": (lambda: modules.ModelUtils.count_parameters(nn.Linear(2, 3)), int),
    "get_model_size": (lambda: modules.ModelUtils.get_model_size(nn.Linear(2, 3)), str),
    "freeze_layers": (lambda: modules.ModelUtils.freeze_layers(nn.Linear(2, 3), ["weight"]), type(None)),
    "unfreeze_layers": (lambda: modules.ModelUtils.unfreeze_layers(nn.Linear(2, 3), ["weight"]), type(None)),
    "initialize_weights": (lambda: modules.ModelUtils.initialize_weights(nn.Linear(2, 3)), type(None)),
}  # fmt: skip


def tiger() -> Any:
    """Three items of two codes each."""
    from genrec.models.tiger import Tiger

    model = Tiger(9, embedding_dim=8, num_heads=2, num_layers=1, attn_dim=8, code_length=2, n_items=3).eval()
    model.set_code_table(torch.tensor([[-1, -1], [0, 1], [0, 2], [3, 0]]))
    return model


TOKENS = torch.tensor([[1, 6, 4, 5], [1, 7, 0, 0]])
RETURNS_TIGER: dict[str, tuple[Callable[[], Any], Any]] = {
    "Tiger": (lambda: tiger()(TOKENS, (TOKENS != 0).float()), (2, 4, 9)),
    "generate": (lambda: tiger().generate(TOKENS, max_length=50, temperature=1.0, top_k=50, top_p=0.9, n_beams=2),
                 [(2, 2), (2, 2)]),
}  # fmt: skip

SIGNATURES = {**SIGNATURES_DATA, **SIGNATURES_MODULES, **SIGNATURES_RQVAE, **SIGNATURES_TIGER, **SIGNATURES_TRAINERS}
ATTRIBUTES = {**ATTRIBUTES_MODULES}
RETURNS = {**RETURNS_MODULES, **RETURNS_TIGER}
FACADES = [genrec.data, genrec.modules, genrec.trainers]


def find(name: str) -> Any:
    """The object of a dotted name, of which as much as can be is imported."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def signature(name: str) -> str:
    """The parameters without their types."""
    found = inspect.signature(find(name))
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in found.parameters.values()]
    return str(found.replace(parameters=plain, return_annotation=inspect.Signature.empty))[1:-1]


def described(result: Any) -> Any:
    """As the tables have it.

    Example:
        >>> described((torch.zeros(2, 3), {"loss": torch.tensor(1.0)}, 0.5))
        [(2, 3), {'loss': ()}, <class 'float'>]
    """
    if isinstance(result, Tensor):
        return tuple(result.shape)
    if isinstance(result, tuple | list):
        return [described(part) for part in result]
    if isinstance(result, dict):
        return {name: described(part) for name, part in result.items()}
    return type(result)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_name_is_called_as_the_documents_call_it(name):
    assert signature(name) == SIGNATURES[name]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_object_has_the_attributes_that_the_documents_name(name):
    make, attributes = ATTRIBUTES[name]
    made = make()
    assert [attribute for attribute in attributes.split(", ") if not hasattr(made, attribute)] == []


@pytest.mark.parametrize("name", RETURNS)
def test_a_call_returns_what_the_documents_say(name):
    call, expected = RETURNS[name]
    assert described(call()) == expected


@pytest.mark.parametrize("name", [name for name in SIGNATURES_MODULES if name.count(".") == 2])
def test_a_class_shows_how_it_is_used(name):
    assert ">>> " in (inspect.getdoc(find(name)) or "")


@pytest.mark.parametrize("facade", FACADES, ids=lambda facade: facade.__name__)
class TestFacades:
    def test_the_names_are_sorted_and_dir_lists_them(self, facade):
        assert facade.__all__ == sorted(facade.__all__) == dir(facade)

    def test_each_name_is_what_a_module_of_the_package_defines(self, facade):
        for name in facade.__all__:
            value = getattr(facade, name)
            assert value.__module__.startswith("genrec.")
            assert value is getattr(importlib.import_module(value.__module__), name)

    def test_an_unknown_name_lists_those_that_there_are(self, facade):
        with pytest.raises(AttributeError, match=f"has no attribute 'Recomender'; it has {facade.__all__[0]}, "):
            _ = facade.Recomender

    def test_importing_the_package_loads_nothing_else(self, facade):
        script = f"import sys; before = set(sys.modules); import {facade.__name__}; print(*(set(sys.modules) - before))"
        loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
        tools = ("genrec", "lightning", "matplotlib", "numpy", "pandas", "pytorch", "torch")
        assert sorted(name for name in loaded if name.startswith(tools)) == ["genrec", facade.__name__]
