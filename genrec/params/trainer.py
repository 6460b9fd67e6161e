"""What runs the training."""

from typing import Literal

from pydantic import ValidationInfo, field_validator

from genrec.params.types import NotNegative, Positive, Switch, section


@section
class Trainer:
    """What runs the training and can change a result's last digits: each training and evaluation depends on it."""

    gpus: NotNegative
    precision: Literal["auto", "32-true", "bf16-mixed"]
    portable: Switch
    num_threads: Positive

    @field_validator("portable")
    @classmethod
    def _not_with_bfloat16(cls, portable: bool, info: ValidationInfo) -> bool:
        if portable and info.data.get("precision") == "bf16-mixed" and info.data.get("gpus") == 0:
            raise ValueError(
                "must be false where trainer.precision is bf16-mixed on a CPU, whose units for bfloat16 differ"
            )
        return portable
