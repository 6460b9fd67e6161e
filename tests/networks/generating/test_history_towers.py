"""The pipeline's two towers."""

from typing import get_args

import pytest
import torch

from genrec.choices import TowerNetwork
from genrec.networks.generating.history_towers import HistoryTowers


@pytest.mark.parametrize("network", get_args(TowerNetwork))
def test_scores_are_those_of_the_towers_and_padding_is_never_ranked(network):
    torch.manual_seed(0)
    model = HistoryTowers(6, network, 8, (8,)).eval()
    history = torch.tensor([[1, 2, 0], [3, 4, 5]])
    scores = model.scores(history)
    users, items = model.user_tower({"history": history}), model.item_tower({"target": torch.tensor([4])})
    assert scores.shape == (2, 7)
    assert scores[:, 0].isneginf().all()
    assert torch.allclose(scores[:, 4], (users @ items.T).squeeze(1) / 0.1, atol=1e-5)


def test_the_last_item_is_the_last_that_is_no_padding():
    torch.manual_seed(0)
    model = HistoryTowers(6, "dssm", 8, (8,)).eval()
    left, right, other = (
        model.user_tower({"history": torch.tensor([row])}) for row in ([0, 1, 2], [1, 2, 0], [2, 1, 0])
    )
    assert torch.allclose(left, right, atol=1e-6)
    assert not torch.allclose(right, other)


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="network must be one of dssm, youtube_dnn, got 'gru'"):
        HistoryTowers(6, "gru")
