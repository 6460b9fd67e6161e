"""What train_two_tower gives its trainer: batches and counts of one popularity."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sequences.test_batches import distance_from_the_whole, histories_that_move_on

from genrec.sequences.histories import Histories
from genrec.training.stage import TrainingStage
from stages import train_two_tower


class BuiltError(Exception):
    """In place of a training."""


class NoTrainer:
    def __init__(self, *arguments, **options):
        self.options = options

    def fit(self, train, validation):
        raise BuiltError(train, self.options)


def test_its_batches_have_the_popularity_that_their_negatives_are_corrected_for(tmp_path, monkeypatch):
    # batches of like length held other items than the counts said
    histories = histories_that_move_on()
    monkeypatch.setattr(Histories, "load", staticmethod(lambda _: histories))
    monkeypatch.setattr(TrainingStage, "scratch", lambda *_, **__: nullcontext(tmp_path))
    monkeypatch.setattr(train_two_tower, "live_curves", lambda _: None)
    monkeypatch.setattr(train_two_tower, "MatchTrainer", NoTrainer)
    with pytest.raises(BuiltError) as built:
        train_two_tower.main()
    loader, options = built.value.args
    assert distance_from_the_whole(loader, histories) < 0.15  # .67 in batches of like length
    targets = torch.cat([batch["target"] for batch in loader]).numpy()
    assert options["item_counts"].tolist() == np.bincount(targets, minlength=11).tolist()
