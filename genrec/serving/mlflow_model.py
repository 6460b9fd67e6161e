"""The package as MLflow runs it: this file is logged as the model's code, so nothing is pickled."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from genrec.serving.folder import compute_as

if TYPE_CHECKING:
    from genrec.serving.recommender import Request

COLUMNS = ["request", "rank", "item", "title", "score", "source"]
PARAMS = ("k", "model", "boost", "exclude_history", "temperature", "seed", "without_last")


class PackagedRecommender(PythonModel):
    """A frame with a column `user`, or `items` (keys with commas between, or lists), to a row a recommendation."""

    def load_context(self, context: Any) -> None:
        package = Path(context.artifacts["package"])
        compute_as(package)
        from genrec.serving.recommender import Recommender  # which loads torch

        self.recommender = Recommender.load(package)

    # without types: MLflow takes those of the input for a schema, and knows none for frames
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Answer each row of a frame.

        Args:
            params: settings of `Request` that all rows share: k, model, boost, exclude_history, temperature, seed,
                without_last.

        Raises:
            UserError: a row has neither a user nor items, or a setting is out of its range.
        """
        frame = pd.DataFrame(model_input)
        shared = {name: value for name, value in (params or {}).items() if name in PARAMS and value != ""}
        requests = [_request(row, shared) for row in frame.to_dict("records")]
        rows = [
            (place, rank, each.item, each.title, each.score, answer.source)
            for place, answer in enumerate(self.recommender.recommend(requests))
            for rank, each in enumerate(answer.recommendations, start=1)
        ]
        return pd.DataFrame(rows, columns=COLUMNS)


def _request(row: Mapping[Hashable, Any], shared: dict[str, Any]) -> "Request":
    from genrec.serving.recommender import Request  # after the package was loaded, as torch is

    user, items = row.get("user"), row.get("items")
    if isinstance(user, str) and user:
        return Request(user=user, **shared)
    if isinstance(items, str):
        items = [key.strip() for key in items.split(",") if key.strip()]
    if items is None or isinstance(items, float):  # pandas fills up with NaN
        return Request(**shared)
    return Request(items=[str(key) for key in items], **shared)


set_model(PackagedRecommender())
