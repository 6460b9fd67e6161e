"""Tensors in, tensors out: layers, quantizers, losses, metrics, prefix tree, beam search.

The names here are for users and load when asked for; the code itself imports the module that owns a name. A function
that bears its module's name (`beam_search`, `code_health`, `kmeans`) comes from that module, since `genrec.modules` can
hold but one of the two: `from genrec.codes.tokenizer.kmeans import kmeans`.

Example:
    >>> from genrec.modules import RecommendationMetrics
    >>> RecommendationMetrics.hit_rate_at_k([[1, 2], [3, 4]], [[2], [5]], k=2)
    0.5
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "AttentionVisualization": "modules.attention_heatmap",
    "BeamDecoder": "generation.generator",
    "Beams": "generation.beam_search",
    "ContrastiveLoss": "modules.losses",
    "Decoder": "generation.beam_search",
    "DenseFeature": "tasks.features",
    "Dropout": "layers.dropout",
    "EMAQuantizer": "codes.tokenizer.quantizers",
    "EncoderLayer": "modules.transformer",
    "Experts": "tasks.feature_layers",
    "FeatureEmbedding": "tasks.features",
    "FullTree": "generation.prefix_tree",
    "GeneratedItems": "generation.generated_items",
    "ItemGenerator": "generation.item_generator",
    "LinearFeatures": "tasks.feature_layers",
    "Mlp": "tasks.feature_layers",
    "ModelUtils": "modules.parameters",
    "MultiHeadAttention": "networks.sequential.attention",
    "PositionalEncoding": "modules.transformer",
    "PrefixTree": "generation.prefix_tree",
    "Quantized": "codes.tokenizer.quantizers",
    "RecommendationMetrics": "modules.recommendation_metrics",
    "Regularization": "tasks.regularization",
    "ResidualQuantizer": "codes.tokenizer.quantizers",
    "RotationQuantizer": "codes.tokenizer.quantizers",
    "SemanticIdGenerator": "generation.generator",
    "SequenceFeature": "tasks.features",
    "SequenceLoss": "modules.losses",
    "SharedDropout": "layers.dropout",
    "SinkhornQuantizer": "codes.tokenizer.quantizers",
    "SparseFeature": "tasks.features",
    "TargetAttention": "tasks.feature_layers",
    "TransformerEncoder": "modules.transformer",
    "Tree": "generation.beam_search",
    "VQVAELoss": "codes.tokenizer.vqvae_loss",
    "VectorQuantizer": "codes.tokenizer.quantizers",
    "all_in_batch": "towers.in_batch",
    "bayesian_personalized_ranking": "tasks.probability_losses",
    "binary_cross_entropy": "tasks.probability_losses",
    "build_prefix_tree": "generation.prefix_tree",
    "check_categories": "tasks.features",
    "check_finite": "layers.finite",
    "check_gates": "codes.tokenizer.code_health",
    "check_ordered": "layers.finite",
    "code_log_probabilities": "models.etegrec.alignment",
    "cosines": "models.etegrec.alignment",
    "coverage": "evaluation.measures",
    "default_embed_dim": "tasks.features",
    "discounted_gain": "retrieval.ranks",
    "diversity": "modules.jaccard",
    "factorization_machine": "tasks.feature_layers",
    "first_occurrences": "models.etegrec.alignment",
    "first_order": "tasks.features",
    "in_batch_logits": "towers.in_batch",
    "in_batch_negatives": "towers.in_batch",
    "initialize_weights": "layers.initialization",
    "known_labels": "tasks.probability_losses",
    "last_items": "layers.history_cut",
    "learning_rate_factor": "training.schedules",
    "log_sampling_probability": "towers.in_batch",
    "log_transport_plan": "codes.tokenizer.sinkhorn",
    "look_up": "tasks.features",
    "masked_task_losses": "tasks.probability_losses",
    "nearest": "codes.tokenizer.kmeans",
    "popularity_bias": "evaluation.measures",
    "preference_semantic_alignment": "models.etegrec.alignment",
    "ranks_from_scores": "retrieval.ranks",
    "ranks_in_lists": "retrieval.ranks",
    "refuse_collapse": "codes.tokenizer.code_health",
    "roc_auc": "tasks.auc",
    "rotate": "codes.tokenizer.quantizers",
    "seed_centres": "codes.tokenizer.kmeans",
    "sequence_item_alignment": "models.etegrec.alignment",
    "shaped": "generation.sampling",
    "softmax_cross_entropy": "tasks.probability_losses",
    "squared_distances": "codes.tokenizer.kmeans",
    "top_items": "retrieval.ranks",
    "total_dim": "tasks.features",
    "user_metrics": "evaluation.measures",
    "value_of": "tasks.features",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """A public name, from the module that owns it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"genrec.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
