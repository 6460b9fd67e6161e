"""SASRec in the pipeline: its entry and its settings."""

from pydantic import field_validator

from genrec.choices import SasrecLoss, Schedule
from genrec.generators.entry import GeneratorEntry
from genrec.params.types import Dropout, NotNegative, Positive, Rate, Switch, Weight, divides_the_embedding, section


@section
class TrainSasrec:
    embedding_dim: Positive
    num_layers: Positive
    num_heads: Positive
    dropout: Dropout
    max_history: Positive
    input_norm: Switch
    learns_repeats: Switch
    adds_words: Switch
    loss: SasrecLoss
    num_negatives: Positive
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
    name="sasrec",
    title="SASRec",
    place=1,
    network="genrec.networks.sequential.sasrec.SASRecNetwork",
    ranks="scores",
    code_table=None,
)
