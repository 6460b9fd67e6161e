"""The rankers."""

from typing import Annotated, Literal

from pydantic import Field

from genrec.choices import RankerNetwork
from genrec.params.types import Dropout, Integer, Positive, Rate, Sizes, Weight, section


@section
class TrainRanker:
    network: RankerNetwork
    loss_weighting: Literal["equal", "uwl", "metabalance", "gradnorm"]
    item_columns: tuple[str, ...]
    embedding_dim: Positive
    hidden_dims: Annotated[Sizes, Field(min_length=1)]
    dropout: Dropout
    max_history: Positive
    holdout: Annotated[float, Field(gt=0, lt=1)]
    batch_size: Annotated[Integer, Field(ge=2)]
    learning_rate: Rate
    weight_decay: Weight
    max_epochs: Positive
    patience: Positive
