"""What runs the training."""

from typing import Literal

from genrec.params.types import NotNegative, Positive, section


@section
class Trainer:
    """What runs the training and can change a result's last digits: each training and evaluation depends on it."""

    gpus: NotNegative
    precision: Literal["auto", "32-true", "bf16-mixed"]
    num_threads: Positive
