"""What is put into one folder for those who ask for recommendations."""

from typing import Annotated

from pydantic import Field

from genrec.params.types import section


@section
class Package:
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    registered_name: Annotated[str, Field(pattern=r"^([\w. -]+)?$")]
