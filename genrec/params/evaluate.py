"""What all evaluations share."""

from pydantic import ValidationInfo, field_validator

from genrec.params.types import Positive, Sizes, section


@section
class Evaluate:
    ks: Sizes
    n_beams: Positive
    batch_size: Positive
    bootstrap_samples: Positive

    @field_validator("ks")
    @classmethod
    def _ascend(cls, ks: Sizes) -> Sizes:
        if not ks or list(ks) != sorted(set(ks)):
            raise ValueError("must be one or more numbers, strictly ascending")
        return ks

    @field_validator("n_beams")
    @classmethod
    def _fill_the_longest_list(cls, n_beams: int, info: ValidationInfo) -> int:
        longest = max(info.data.get("ks", [n_beams]))
        if n_beams < longest:
            raise ValueError(f"must be at least {longest}, the last of evaluate.ks")
        return n_beams
