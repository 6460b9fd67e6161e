"""Which interactions count, and in which order."""

from typing import Annotated, Literal

from pydantic import Field

from genrec.params.types import Integer, Positive, section


@section
class PrepareData:
    engine: Literal["memory", "stream"]
    min_user_interactions: Annotated[Integer, Field(ge=3)]
    min_item_interactions: Positive
    repeats: Literal["keep", "drop"]
    ties: Literal["file", "item", "hash"]
