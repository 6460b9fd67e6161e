"""SASRec in the pipeline: its entry and its settings."""

from pydantic import ValidationInfo, field_validator

from genrec.choices import SasrecLoss
from genrec.generators.entry import GeneratorEntry
from genrec.params.types import Dropout, Positive, Rate, Weight, section


@section
class TrainSasrec:
    embedding_dim: Positive
    num_layers: Positive
    num_heads: Positive
    dropout: Dropout
    max_history: Positive
    loss: SasrecLoss
    num_negatives: Positive
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    max_epochs: Positive
    patience: Positive

    @field_validator("num_heads")
    @classmethod
    def _divides_the_embedding(cls, num_heads: int, info: ValidationInfo) -> int:
        embedding_dim = info.data.get("embedding_dim", num_heads)  # absent if it is wrong itself
        if embedding_dim % num_heads:
            raise ValueError(f"must divide embedding_dim={embedding_dim}")
        return num_heads


ENTRY = GeneratorEntry(
    name="sasrec",
    title="SASRec",
    place=1,
    network="genrec.networks.sequential.sasrec.SASRecNetwork",
    ranks="scores",
    code_table=None,
)
