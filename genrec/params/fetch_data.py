"""The data set."""

import re
from typing import Annotated, Any

from pydantic import Field, field_validator

from genrec.params.types import Integer, Positive, Seed, nested, section


@nested
class Columns:
    """The names of the columns of an `interactions` file; an empty name means that there is no such column."""

    user: str
    item: str
    time: str
    rating: str


@nested
class Synthetic:
    """The seed and the size of the drawn data set that tests and the smoke run use."""

    seed: Seed
    n_users: Positive
    n_items: Annotated[Integer, Field(ge=10)]
    n_clusters: Positive


@section
class FetchData:
    name: str
    path: str
    items_path: str
    sha256: str
    columns: Columns
    synthetic: Synthetic

    @field_validator("sha256", mode="before")
    @classmethod
    def _is_text(cls, sha256: Any) -> Any:
        """YAML takes digits for a number."""
        return str(sha256) if type(sha256) is int else sha256

    @field_validator("sha256")
    @classmethod
    def _has_its_length(cls, sha256: str) -> str:
        if not re.fullmatch("([0-9a-fA-F]{64})?", sha256):
            raise ValueError("must be empty or 64 hexadecimal digits")
        return sha256
