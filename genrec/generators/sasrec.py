"""SASRec in the pipeline: its entry and its settings."""

from pydantic import ValidationInfo, field_validator

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
    sparse_items: Switch
    shuffles_ties: Switch
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    warmup_steps: NotNegative
    schedule: Schedule
    max_epochs: Positive
    patience: Positive

    _divides = field_validator("num_heads")(divides_the_embedding)

    @field_validator("sparse_items")
    @classmethod
    def _samples(cls, sparse_items: bool, info: ValidationInfo) -> bool:
        if sparse_items and info.data.get("loss") == "full_softmax":
            raise ValueError("needs loss: sampled_softmax, since a full one touches all items at each step")
        return sparse_items


ENTRY = GeneratorEntry(
    name="sasrec",
    title="SASRec",
    place=1,
    network="genrec.networks.sequential.sasrec.SASRecNetwork",
    ranks="scores",
    code_table=None,
)
