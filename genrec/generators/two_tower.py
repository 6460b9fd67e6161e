"""Two towers in the pipeline: their entry and their settings."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from genrec.choices import TowerNetwork
from genrec.generators.entry import GeneratorEntry
from genrec.params.types import Dropout, Integer, NotNegative, Positive, Rate, Sizes, Switch, Weight, section


@section
class TrainTwoTower:
    network: TowerNetwork
    embedding_dim: Positive
    hidden_dims: Sizes
    temperature: Rate
    dropout: Dropout
    max_history: Positive
    windows_per_epoch: NotNegative
    shuffles_ties: Switch
    batch_size: Annotated[Integer, Field(ge=2)]
    learning_rate: Rate
    weight_decay: Weight
    max_epochs: Positive
    patience: Positive


ENTRY = GeneratorEntry(
    name="two_tower",
    title="two towers",
    place=2,
    network="genrec.networks.generating.history_towers.HistoryTowers",
    ranks="scores",
    code_table=Path("data/code_table.npy"),
)
