"""Parallel semantic IDs in the pipeline: their entry and their settings."""

from pathlib import Path

from pydantic import field_validator

from genrec.choices import Schedule
from genrec.generators.entry import GeneratorEntry
from genrec.params.types import Dropout, NotNegative, Positive, Rate, Switch, Weight, divides_the_embedding, section


@section
class TrainParallel:
    embedding_dim: Positive
    num_layers: Positive
    num_heads: Positive
    dropout: Dropout
    max_history: Positive
    learns_repeats: Switch
    num_negatives: NotNegative
    digit_loss_weight: Weight
    num_trained_digits: Positive
    shuffles_ties: Switch
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    warmup_steps: NotNegative
    schedule: Schedule
    max_epochs: Positive
    patience: Positive

    _divides = field_validator("num_heads")(divides_the_embedding)


ENTRY = GeneratorEntry(
    name="parallel",
    title="parallel semantic IDs",
    place=5,
    network="genrec.networks.generating.parallel.ParallelNetwork",
    ranks="scores",
    code_table=Path("data/code_table.npy"),
)
