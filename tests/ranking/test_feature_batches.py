"""Batches of features."""

import pytest
import torch

from genrec.ranking.feature_batches import feature_loader

FEATURES = {"user": torch.arange(10), "history": torch.arange(20).view(10, 2)}


def test_without_a_seed_the_rows_keep_their_order():
    batches = list(feature_loader(FEATURES, None, 4))
    assert torch.cat([batch["user"] for batch in batches]).tolist() == list(range(10))
    assert [len(batch["user"]) for batch in batches] == [4, 4, 2]


def test_a_seed_shuffles_features_and_labels_together():
    loader = feature_loader(FEATURES, torch.arange(10) * 10, 4, seed=0)
    rows = [(int(user), int(label)) for x, y in loader for user, label in zip(x["user"], y, strict=True)]
    assert sorted(rows) == [(user, 10 * user) for user in range(10)]
    assert rows != sorted(rows)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="equally many rows, got {'user': 10, 'history': 10, 'labels': 3}"):
        feature_loader(FEATURES, torch.zeros(3), 4)
