"""TIGER in the pipeline: its entry and its settings."""

from pathlib import Path

from pydantic import ValidationInfo, field_validator

from genrec.choices import Schedule
from genrec.generators.entry import GeneratorEntry
from genrec.params.generator_shape import GeneratorShape
from genrec.params.types import NotNegative, Positive, Rate, Switch, Weight, section, validates_before_the_end


@section
class TrainTiger:
    generator: GeneratorShape
    dense_loss_weight: Weight
    num_negatives: Positive
    windows_per_epoch: NotNegative
    shuffles_ties: Switch
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    warmup_steps: NotNegative
    schedule: Schedule
    max_epochs: Positive
    validate_every: Positive
    patience: Positive
    n_beams: Positive

    @field_validator("dense_loss_weight")
    @classmethod
    def _needs_items(cls, dense_loss_weight: float, info: ValidationInfo) -> float:
        generator = info.data.get("generator")  # absent if it is wrong itself
        if dense_loss_weight > 0 and generator is not None and generator.encoder != "items":
            raise ValueError("needs generator.encoder: items, since the other encoders see no items; or must be 0")
        return dense_loss_weight

    _validates = field_validator("validate_every")(validates_before_the_end)


ENTRY = GeneratorEntry(
    name="tiger",
    title="TIGER",
    place=3,
    network="genrec.networks.generating.tiger.TigerNetwork",
    ranks="beams",
    code_table=Path("data/code_table.npy"),
)
