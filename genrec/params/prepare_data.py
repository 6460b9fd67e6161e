"""Which interactions count, in which order, and what is held out."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from genrec.params.types import Integer, NotNegative, Positive, nested, section


def moment(until: Any) -> float | str:
    """A share of the interactions, or a date in ISO 8601 as text."""
    if isinstance(until, date):  # YAML's own, without quotes
        return until.isoformat()
    try:
        share = float(until)
    except (TypeError, ValueError):
        share = None
    if share is not None and 0 < share < 1 and not isinstance(until, bool):
        return share
    try:
        datetime.fromisoformat(until)
    except (TypeError, ValueError):
        rule = "must be a share between 0 and 1, or a date such as '1998-03-01'"
        raise ValueError(rule) from None
    return str(until)


Moment = Annotated[float | str, BeforeValidator(moment)]


@nested
class InTime:
    train_until: Moment
    validate_until: Moment
    targets: Literal["first", "all"]


@section
class PrepareData:
    engine: Literal["memory", "stream"]
    min_user_interactions: Annotated[Integer, Field(ge=3)]
    min_item_interactions: Positive
    repeats: Literal["keep", "drop"]
    ties: Literal["file", "item", "hash"]
    split: Literal["leave_one_out", "time"]
    held_out_users: NotNegative
    time: InTime

    @field_validator("held_out_users")
    @classmethod
    def _fits_the_split(cls, held_out_users: int, info: ValidationInfo) -> int:
        if held_out_users and info.data.get("split") == "time":
            raise ValueError("must be 0 where prepare_data.split is time, which holds out of all users the same")
        if held_out_users == 1:
            raise ValueError("must be 0, all users, or at least 2: a ranker learns from some and is chosen by others")
        return held_out_users
