"""Tensors in, tensors out: layers, quantizers, losses, metrics, prefix tree, beam search.

The names here are for users and load when asked for; the code itself imports the module that owns a name. A function
that bears its module's name (`beam_search`, `code_health`, `kmeans`) comes from that module, since `genrec.modules` can
hold but one of the two: `from genrec.modules.kmeans import kmeans`.

Example:
    >>> from genrec.modules import RecommendationMetrics
    >>> RecommendationMetrics.hit_rate_at_k([[1, 2], [3, 4]], [[2], [5]], k=2)
    0.5
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "AttentionVisualization": "attention_heatmap",
    "BeamDecoder": "generator",
    "Beams": "beam_search",
    "ContrastiveLoss": "losses",
    "Decoder": "beam_search",
    "DenseFeature": "features",
    "Dropout": "dropout",
    "EMAQuantizer": "quantizers",
    "EncoderLayer": "transformer",
    "Experts": "feature_layers",
    "FeatureEmbedding": "features",
    "FullTree": "prefix_tree",
    "GeneratedItems": "generated_items",
    "ItemGenerator": "item_generator",
    "LinearFeatures": "feature_layers",
    "Mlp": "feature_layers",
    "ModelUtils": "parameters",
    "MultiHeadAttention": "attention",
    "PositionalEncoding": "transformer",
    "PrefixTree": "prefix_tree",
    "Quantized": "quantizers",
    "RecommendationMetrics": "recommendation_metrics",
    "Regularization": "regularization",
    "ResidualQuantizer": "quantizers",
    "RotationQuantizer": "quantizers",
    "SemanticIdGenerator": "generator",
    "SequenceFeature": "features",
    "SequenceLoss": "losses",
    "SharedDropout": "dropout",
    "SinkhornQuantizer": "quantizers",
    "SparseFeature": "features",
    "TargetAttention": "feature_layers",
    "TransformerEncoder": "transformer",
    "Tree": "beam_search",
    "VQVAELoss": "losses",
    "VectorQuantizer": "quantizers",
    "all_in_batch": "in_batch",
    "bayesian_personalized_ranking": "probability_losses",
    "binary_cross_entropy": "probability_losses",
    "build_prefix_tree": "prefix_tree",
    "check_gates": "code_health",
    "code_log_probabilities": "losses",
    "cosines": "losses",
    "coverage": "metrics",
    "default_embed_dim": "features",
    "discounted_gain": "ranks",
    "diversity": "jaccard",
    "factorization_machine": "feature_layers",
    "first_occurrences": "losses",
    "first_order": "features",
    "full_softmax_loss": "losses",
    "in_batch_logits": "in_batch",
    "in_batch_negatives": "in_batch",
    "initialize_weights": "initialization",
    "learning_rate_factor": "schedules",
    "log_sampling_probability": "in_batch",
    "log_transport_plan": "sinkhorn",
    "masked_task_losses": "probability_losses",
    "nearest": "kmeans",
    "popularity_bias": "metrics",
    "preference_semantic_alignment": "losses",
    "ranks_from_scores": "ranks",
    "ranks_in_lists": "ranks",
    "refuse_collapse": "code_health",
    "roc_auc": "auc",
    "rotate": "quantizers",
    "sampled_softmax_loss": "losses",
    "seed_centres": "kmeans",
    "sequence_item_alignment": "losses",
    "shaped": "sampling",
    "softmax_cross_entropy": "probability_losses",
    "squared_distances": "kmeans",
    "top_items": "ranks",
    "total_dim": "features",
    "user_metrics": "metrics",
    "value_of": "features",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """A public name, from the module that owns it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
