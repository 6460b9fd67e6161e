"""The tokenizer."""

from typing import Literal

from pydantic import field_validator

from genrec.choices import Quantizer
from genrec.params.types import Fraction, Positive, Rate, Sizes, Weight, nested, section, validates_before_the_end


@nested
class Gates:
    """The tokenizer's health: the stage fails when a level or the whole table is outside these bounds."""

    min_usage: Fraction
    min_entropy: Fraction
    max_collision_rate: Fraction


@section
class TrainRqvae:
    tokenizer: Literal["rqvae", "rqkmeans"]
    quantizer: Quantizer
    hidden_dims: Sizes
    latent_dim: Positive
    commitment_cost: Weight
    kmeans_iterations: Positive
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    max_epochs: Positive
    validate_every: Positive
    gates: Gates

    _validates = field_validator("validate_every")(validates_before_the_end)
