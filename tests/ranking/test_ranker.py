"""The pipeline's ranker."""

from typing import get_args

import pytest
import torch

from genrec.choices import RankerNetwork
from genrec.ranking.ranker import Ranker
from genrec.storage.checkpoint import load_model, save_model

X = {
    "item_id": torch.tensor([1, 2, 3]),
    "history": torch.tensor([[1, 2], [3, 0], [2, 3]]),
    "signals": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
}
ATTRIBUTES = torch.tensor([[0, 0], [1, 2], [2, 1], [3, 2]])


def ranker(network="wide_deep"):
    torch.manual_seed(0)
    model = Ranker(network, 3, [4, 3], 4, embedding_dim=4, hidden_dims=(8,))
    model.set_attributes(ATTRIBUTES)
    model.set_scale(X["signals"])
    return model.eval()


@pytest.mark.parametrize("network", get_args(RankerNetwork))
def test_each_row_has_a_score_of_its_own_and_the_file_gives_the_same(tmp_path, network):
    model = ranker(network)
    scores = model.scores(X, 1.0)
    alone = torch.cat([model.scores({name: value[i : i + 1] for name, value in X.items()}, 1.0) for i in range(3)])
    save_model(model, tmp_path / "ranker.ckpt")
    assert scores.shape == (3,)
    assert torch.allclose(scores, alone, atol=1e-6)
    assert torch.equal(load_model(Ranker, tmp_path / "ranker.ckpt").scores(X, 1.0), scores)


@pytest.mark.parametrize("network", get_args(RankerNetwork))
def test_attributes_histories_and_signals_all_count(network):
    model = ranker(network)
    before = model.scores(X, 0.0)
    for name, value in (("item_id", X["item_id"].flip(0)), ("history", X["history"].flip(0)),
                        ("signals", X["signals"] + 1)):  # fmt: skip
        assert (model.scores(X | {name: value}, 0.0) - before).abs().max() > 1e-6


def test_the_rating_counts_by_its_weight():
    model = ranker("mmoe")
    click, rating = model(X).unbind(1)
    assert torch.equal(model.scores(X, 0.0), click)
    assert torch.allclose(model.scores(X, 2.0), click * rating.clamp_min(1e-6) ** 2)


def test_likes_of_esmm_are_the_chance_of_both():
    model = ranker("esmm")
    assert torch.allclose(model.scores(X, 1.0), model(X)[:, 2])


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="network must be one of wide_deep"):
        Ranker("deep", 3, [4], 4)
