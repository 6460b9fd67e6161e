"""Two towers: what a batch asks for, and SASRec as one of them."""

import pytest
import torch

from genrec.models.sasrec import SASRec
from genrec.models.sasrec_towers import SASRecTowers
from genrec.networks.generating.two_tower import DSSM, YoutubeDNN
from genrec.tasks.features import SequenceFeature, SparseFeature

USER = SparseFeature("user_id", 4, 6)
ITEM = SparseFeature("item_id", 9, 6)
BRAND = SparseFeature("brand", 3, 6)
HISTORY = SequenceFeature("history", 9, 6, shared_with="item_id")
X = {
    "user_id": torch.tensor([0, 1, 2]),
    "history": torch.tensor([[1, 2], [3, 0], [8, 7]]),
    "item_id": torch.tensor([4, 5, 6]),
}


def dssm(temperature=1.0):
    torch.manual_seed(0)
    return DSSM([USER, HISTORY], [ITEM], (8,), 5, temperature).eval()


def youtube_dnn():
    torch.manual_seed(0)
    return YoutubeDNN([USER, HISTORY], ITEM, (8,), 0.1).eval()


@pytest.mark.parametrize("network", [dssm, youtube_dnn])
def test_the_scores_are_those_of_the_towers(network):
    model = network()
    users, items = model.user_tower(X), model.item_tower(X)
    scores = (users * items).sum(1) / model.temperature
    negatives = torch.tensor([[1, 2], [3, 1], [5, 8]])
    negative = torch.stack([(users * model.item_tower({"item_id": column})).sum(1) for column in negatives.T], 1)
    logits = torch.cat([scores[:, None], negative / model.temperature], dim=1)
    assert torch.allclose(model(X), scores.sigmoid())
    assert torch.allclose(model(X | {"neg_items": negatives}), logits, atol=1e-6)
    assert torch.allclose(model(X | {"neg_item_id": negatives[:, 0]}), logits[:, :2], atol=1e-6)


def test_the_temperature_scales_the_scores():
    # Torch-RecHub's DSSM takes one and ignores it.
    assert torch.allclose(dssm(0.05)(X).logit(), 20 * dssm(1.0)(X).logit(), atol=1e-3)


def test_negatives_need_all_features_of_an_item():
    model = DSSM([USER], [ITEM, BRAND], (8,), 5).eval()
    x = X | {"brand": torch.tensor([0, 1, 2]), "neg_item_id": torch.tensor([[1], [2], [3]])}
    with pytest.raises(ValueError, match="got no 'neg_brand'"):
        model(x)
    assert model(x | {"neg_brand": torch.tensor([[1], [2], [0]])}).shape == (3, 2)


def test_a_mode_gives_the_vectors_of_one_tower():
    model = dssm()
    model.mode = "item"
    assert torch.equal(model(X), model.item_tower(X))
    model.mode = "user"
    assert torch.equal(model(X), model.user_tower(X))


def towers():
    torch.manual_seed(0)
    return SASRecTowers(SASRec(n_items=8, embedding_dim=8, num_layers=1, num_heads=2, max_history=4)).eval()


def test_the_last_item_changes_sasrecs_user_and_an_item_beyond_the_cut_does_not():
    # In Torch-RecHub histories of different last items give one vector, if they are padded on the left.
    model = towers()
    vector = model.user_tower({"history": torch.tensor([[1, 2, 3]])})
    assert not torch.allclose(vector, model.user_tower({"history": torch.tensor([[1, 2, 4]])}))
    states = model.model(torch.tensor([[1, 2, 3, 5]]))
    assert torch.allclose(vector[0], states[0, 2], atol=1e-6)


def test_padding_on_either_side_gives_equal_users_and_none_at_all_a_finite_one():
    model = towers()
    left = model.user_tower({"history": torch.tensor([[0, 1, 2]])})
    right = model.user_tower({"history": torch.tensor([[1, 2, 0]])})
    assert torch.allclose(left, right, atol=1e-6)
    assert model.user_tower({"history": torch.zeros(1, 3, dtype=torch.long)}).isfinite().all()
