"""ETEGRec in the pipeline: its entry and its settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from genrec.choices import SiaSign
from genrec.generators.entry import GeneratorEntry
from genrec.params.generator_shape import GeneratorShape
from genrec.params.types import Integer, NotNegative, Positive, Rate, Switch, Weight, nested, section


@nested
class FinalStage:
    """ETEGRec's last part: the tokenizer frozen for good, the recommender alone trained further."""

    learning_rate: Rate
    max_epochs: NotNegative
    patience: Positive


@section
class TrainEtegrec:
    variant: Literal["full", "no_sia", "no_psa", "no_alignment", "no_alternation", "no_end_to_end"]
    generator: GeneratorShape
    windows_per_epoch: NotNegative
    shuffles_ties: Switch
    batch_size: Positive
    learning_rate: Rate
    tokenizer_learning_rate: Rate
    weight_decay: Weight
    warmup_steps: NotNegative
    sia_weight: Weight
    psa_weight: Weight
    sia_sign: SiaSign
    alpha: Weight
    cycle: Annotated[Integer, Field(ge=2)]
    warmup_epochs: NotNegative
    max_epochs: Positive
    patience: Positive
    n_beams: Positive
    final_stage: FinalStage

    @field_validator("max_epochs")
    @classmethod
    def _validates(cls, max_epochs: int, info: ValidationInfo) -> int:
        """It validates once a cycle; without one validation there would be no best state."""
        cycle = info.data.get("cycle", max_epochs)  # absent if it is wrong itself
        if max_epochs < cycle:
            raise ValueError(f"must be at least cycle={cycle}")
        if max_epochs % cycle:
            raise ValueError(f"must be a multiple of cycle={cycle}: the epochs after the last validation would be lost")
        return max_epochs


ENTRY = GeneratorEntry(
    name="etegrec",
    title="ETEGRec",
    place=4,
    network="genrec.networks.generating.etegrec.ETEGRecNetwork",
    ranks="beams",
    code_table=Path("data/etegrec_code_table.npy"),
)
