"""What the sections of params.yaml are made of: types of values, and the mark that makes a class a section."""

from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, ValidationInfo
from pydantic.dataclasses import dataclass

# whole numbers and switches are taken as they are; a number with a fraction may be written as text, see check_params
Integer = Annotated[int, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Positive = Annotated[Integer, Field(ge=1)]
NotNegative = Annotated[Integer, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# what torch and numpy both take, also times the number of epochs
Seed = Annotated[Integer, Field(ge=0, le=2**32 - 1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Sizes = tuple[Positive, ...]

Section = TypeVar("Section")


@dataclass_transform(frozen_default=True)
def nested(settings: type[Section]) -> type[Section]:
    """Make a class of annotated fields a strict, frozen part of a section: no key more, no key less."""
    decorate: Any = dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
    decorated: type[Section] = decorate(settings)
    return decorated


@dataclass_transform(frozen_default=True)
def section(settings: type[Section]) -> type[Section]:
    """Make a class a section of params.yaml; its key is the class's name in small letters.

    It may have no default and no property: a stage depends on the values that it reads, not on the file that types
    them, so the file must hand over what stands in params.yaml, or refuse it.
    """
    decorated = nested(settings)
    decorated.__is_section__ = True  # type: ignore[attr-defined]
    return decorated


def divides_the_embedding(num_heads: int, info: ValidationInfo) -> int:
    """Each head of the attention has an equal part of the embedding."""
    embedding_dim = info.data.get("embedding_dim", num_heads)  # absent if it is wrong itself
    if embedding_dim % num_heads:
        raise ValueError(f"must divide embedding_dim={embedding_dim}")
    return num_heads


def validates_before_the_end(validate_every: int, info: ValidationInfo) -> int:
    """Without one validation there would be no best weights."""
    max_epochs = info.data.get("max_epochs", validate_every)  # absent if it is wrong itself
    if validate_every > max_epochs:
        raise ValueError(f"must be at most max_epochs={max_epochs}")
    return validate_every
