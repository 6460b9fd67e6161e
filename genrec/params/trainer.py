"""What runs the training."""

from typing import Any, Literal

from pydantic import ValidationInfo, field_validator

from genrec.params.types import NotNegative, Positive, Switch, section


@section
class Trainer:
    """What runs the training and can change a result's last digits: each training and evaluation depends on it."""

    gpus: NotNegative
    precision: Literal["auto", "32-true", "bf16-mixed"]
    portable: Switch
    num_threads: Positive
    devices: Positive
    strategy: Literal["auto", "ddp"]
    num_nodes: Positive

    @field_validator("portable")
    @classmethod
    def _not_with_bfloat16(cls, portable: bool, info: ValidationInfo) -> bool:
        if portable and info.data.get("precision") == "bf16-mixed" and info.data.get("gpus") == 0:
            raise ValueError(
                "must be false where trainer.precision is bf16-mixed on a CPU, whose units for bfloat16 differ"
            )
        return portable

    @field_validator("devices")
    @classmethod
    def _one_gpu_each(cls, devices: int, info: ValidationInfo) -> int:
        gpus = info.data.get("gpus", 0)
        if gpus not in (0, devices):
            raise ValueError(f"must be {gpus} where trainer.gpus is {gpus}, a process for each GPU")
        return devices

    @field_validator("strategy", "num_nodes")
    @classmethod
    def _one_process_where_portable(cls, value: Any, info: ValidationInfo) -> Any:
        if value not in ("auto", 1) and info.data.get("portable") and info.data.get("gpus") == 0:
            raise ValueError(
                f"must be {'auto' if value == 'ddp' else 1} where trainer.portable is true, whose trainings have the "
                "bytes of one process; set trainer.portable to false to train by several"
            )
        return value

    @field_validator("num_nodes")
    @classmethod
    def _several_for_ddp(cls, num_nodes: int, info: ValidationInfo) -> int:
        if info.data.get("strategy") == "ddp" and info.data.get("devices", 1) * num_nodes == 1:
            raise ValueError("must, or trainer.devices, be above 1 where trainer.strategy is ddp")
        return num_nodes
