"""Where item embeddings come from."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from genrec.params.types import Integer, Positive, Switch, nested, section


@nested
class TextEncoder:
    """Which columns of the item table make an item's text, and the language model that embeds it."""

    model: Annotated[str, Field(min_length=1)]
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    max_length: Positive
    batch_size: Positive


@nested
class Words:
    """Which columns of the item table are read for words, none for all but the ids, and what they are reduced to."""

    columns: tuple[Annotated[str, Field(min_length=1)], ...]
    dim: Annotated[Integer, Field(ge=2)]


@section
class ExtractEmbeddings:
    source: Literal["sasrec", "words", "sasrec+words", "text", "file"]
    path: str
    text: TextEncoder
    words: Words
    standardize: Switch

    @field_validator("path")
    @classmethod
    def _names_the_file(cls, path: str, info: ValidationInfo) -> str:
        if info.data.get("source") == "file" and not path:
            raise ValueError("must name a .npy or .parquet file if extract_embeddings.source is file")
        return path
