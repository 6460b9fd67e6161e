"""The digits of parallel semantic IDs."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from genrec.params.train_rqvae import Gates
from genrec.params.types import Integer, NotNegative, Positive, section


@section
class BuildDigits:
    embedding_digits: NotNegative
    word_digits: NotNegative
    code_num: Annotated[Integer, Field(ge=2)]
    iterations: Positive
    gates: Gates

    @field_validator("word_digits")
    @classmethod
    def _makes_some(cls, word_digits: int, info: ValidationInfo) -> int:
        if word_digits == 0 and info.data.get("embedding_digits") == 0:
            raise ValueError("must be at least 1 if build_digits.embedding_digits is 0")
        return word_digits
