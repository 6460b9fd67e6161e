"""What may be sent to the service, within limits; what is beyond them is refused before any model sees it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_K, MAX_HISTORY, MAX_LIST, MAX_BODY = 100, 1000, 10_000, 256 * 1024

Key = Annotated[str, Field(min_length=1, max_length=200)]


class Question(BaseModel):
    """Who asks, and for what: `user` or `items`, all by the source's own keys."""

    model_config = ConfigDict(extra="forbid")

    user: Key | None = Field(None, description="the key of a user in the source")
    items: list[Key] | None = Field(None, max_length=MAX_HISTORY, description="keys of a history, oldest first")
    k: int = Field(10, ge=1, le=MAX_K, description="how many items")
    model: Key | None = Field(None, description="a model of the package; by default its first")
    exclude_history: bool = Field(True, description="recommend nothing that is in the history")
    exclude: list[Key] = Field([], max_length=MAX_LIST, description="items that may not be recommended")
    allow: list[Key] | None = Field(None, max_length=MAX_LIST, description="the only items that may")
    temperature: float = Field(0.0, ge=0, le=100, allow_inf_nan=False, description="0: the best; above: a sample")
    seed: int = Field(0, ge=0, lt=2**63, description="of the sample")
    boost: float = Field(0.0, ge=0, le=1000, allow_inf_nan=False, description="of items that came after training")
    without_last: int = Field(0, ge=0, le=MAX_HISTORY, description="as if the last interactions had not happened")

    @model_validator(mode="after")
    def _names_one(self) -> "Question":
        if (self.user is None) == (self.items is None):
            raise ValueError("give either `user` or `items`")
        if self.boost and self.temperature:
            raise ValueError("give either `boost` or `temperature`")
        return self
