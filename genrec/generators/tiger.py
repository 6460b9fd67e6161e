"""TIGER in the pipeline: its entry and its settings."""

from pathlib import Path

from pydantic import field_validator

from genrec.choices import Schedule
from genrec.generators.entry import GeneratorEntry
from genrec.params.generator_shape import GeneratorShape
from genrec.params.types import NotNegative, Positive, Rate, Weight, section, validates_before_the_end


@section
class TrainTiger:
    generator: GeneratorShape
    windows_per_epoch: NotNegative
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    warmup_steps: NotNegative
    schedule: Schedule
    max_epochs: Positive
    validate_every: Positive
    patience: Positive
    n_beams: Positive

    _validates = field_validator("validate_every")(validates_before_the_end)


ENTRY = GeneratorEntry(
    name="tiger",
    title="TIGER",
    place=3,
    network="genrec.networks.generating.tiger.TigerNetwork",
    ranks="beams",
    code_table=Path("data/code_table.npy"),
)
