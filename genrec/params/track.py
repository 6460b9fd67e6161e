"""What is published to MLflow."""

from typing import Annotated

from pydantic import Field

from genrec.params.types import Switch, section


@section
class Track:
    enabled: Switch
    experiment: Annotated[str, Field(pattern=r"^\S(.*\S)?$")]
