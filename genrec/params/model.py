"""The shape of semantic IDs: it shapes codebooks, code table, vocabularies and heads."""

from typing import Annotated

from pydantic import Field

from genrec.params.types import Integer, Positive, section


@section
class Model:
    code_num: Annotated[Integer, Field(ge=2)]
    num_levels: Positive
