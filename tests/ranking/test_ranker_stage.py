"""What train_ranker gives the training of a ranker."""

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch

from genrec.generators.entry import proposing_generators
from genrec.ranking.fit_ranker import RatingScale
from genrec.retrieval.candidates import Candidates
from genrec.training.stage import TrainingStage
from ranking.test_rows import CANDIDATES, builder
from stages import train_ranker


class BuiltError(Exception):
    """In place of a training."""


def built(*arguments):
    raise BuiltError(*arguments)


def test_ratings_are_judged_on_the_scale_of_all_of_the_source(tmp_path, monkeypatch):
    # the scale was 5 whatever the data; the one rated candidate has a 3
    ratings = np.array([1, 2, 9, 3, 10, 2, 1, 4, 6], np.float32)
    stubs = {
        "load_code_table": lambda *_: torch.zeros(7, 3, dtype=torch.int32),
        "stack_attributes": lambda *_: torch.arange(7)[:, None],
        "read_parquet": lambda _: pd.DataFrame({"rating": ratings}),
        "fit_ranker": built,
    }
    for name, stub in stubs.items():
        monkeypatch.setattr(train_ranker, name, stub)
    monkeypatch.setattr(Candidates, "load", staticmethod(lambda *_: CANDIDATES))
    monkeypatch.setattr(TrainingStage, "scratch", lambda *_, **__: nullcontext(tmp_path))
    with pytest.raises(BuiltError) as stopped:
        train_ranker.train(proposing_generators()[0], builder(), lambda *_: None)
    _, rows, _, _, scale, *_ = stopped.value.args
    assert rows.ratings[rows.clicks == 1].tolist() == [3]
    assert scale == RatingScale(0.0, 10.0)
