"""The public names of the seed pages: each has the signature that its page prints, and returns what the page says.

A page's names stand in three tables: `SIGNATURES_<page>`, `ATTRIBUTES_<page>` and `RETURNS_<page>`; the tests walk all.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genrec import modules

IDS = torch.zeros(2, 5, dtype=torch.long)
LISTS = [[1, 2], [3, 4]]

# The parameters in their order, with the defaults; keyword-only ones may follow.
SIGNATURES_003 = {
    "genrec.modules.TransformerEncoder": (
        "vocab_size, embedding_dim, num_heads, num_layers, attn_dim, dropout=0.1, max_seq_length=1024"
    ),
    "genrec.modules.TransformerEncoder.forward": "input_ids, attention_mask=None",
    "genrec.modules.PositionalEncoding": "embedding_dim, max_seq_length=5000",
    "genrec.modules.PositionalEncoding.forward": "x",
    "genrec.modules.MultiHeadAttention": "embedding_dim, num_heads, dropout=0.1",
    "genrec.modules.MultiHeadAttention.forward": "query, key, value, mask=None",
    "genrec.modules.VQVAELoss": "commitment_cost=0.25, beta=1.0",
    "genrec.modules.VQVAELoss.forward": "x, x_recon, commitment_loss, embedding_loss",
    "genrec.modules.SequenceLoss": "vocab_size, ignore_index=-100, label_smoothing=0.0",
    "genrec.modules.SequenceLoss.forward": "logits, labels, attention_mask=None",
    "genrec.modules.ContrastiveLoss": "temperature=0.1, margin=0.2",
    "genrec.modules.ContrastiveLoss.forward": "anchor, positive, negative",
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

# What an object has besides its methods.
ATTRIBUTES_003: dict[str, tuple[Callable[[], Any], str]] = {
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
RETURNS_003: dict[str, tuple[Callable[[], Any], Any]] = {
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

SIGNATURES = {**SIGNATURES_003}
ATTRIBUTES = {**ATTRIBUTES_003}
RETURNS = {**RETURNS_003}


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
    """The parameters as a page prints them, without types; keyword-only ones are no page's."""
    parameters = [p for p in inspect.signature(find(name)).parameters.values() if p.name != "self"]
    extra = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert all(p.default is not p.empty for p in extra), f"{name} demands more than its page says: {extra}"
    return ", ".join(
        p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters if p not in extra
    )


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
def test_a_name_has_the_signature_of_its_page(name):
    assert signature(name) == SIGNATURES[name]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_object_has_the_attributes_of_its_page(name):
    make, attributes = ATTRIBUTES[name]
    made = make()
    assert [attribute for attribute in attributes.split(", ") if not hasattr(made, attribute)] == []


@pytest.mark.parametrize("name", RETURNS)
def test_a_call_returns_what_its_page_says(name):
    call, expected = RETURNS[name]
    assert described(call()) == expected


@pytest.mark.parametrize(
    "name", [name for name in SIGNATURES if name[0].islower() and name.split(".")[-1][0].isupper()]
)
def test_a_class_of_a_page_says_what_it_is_and_shows_it(name):
    assert ">>> " in (inspect.getdoc(find(name)) or "")
