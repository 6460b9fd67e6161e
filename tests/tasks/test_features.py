"""Features and their tables."""

import pytest
import torch

from genrec.ranking.ctr import DeepFM, LogisticRegression
from genrec.tasks.features import DenseFeature, FeatureEmbedding, SequenceFeature, SparseFeature, total_dim

ITEM = SparseFeature("item", 5, 3)
PRICE = DenseFeature("price", 2)


def history(pooling="mean"):
    return SequenceFeature("history", 5, 3, pooling=pooling, shared_with="item")


def test_two_networks_from_one_list_share_nothing():
    # Torch-RecHub keeps the table in the feature.
    first, second = DeepFM([ITEM], [ITEM]), LogisticRegression([ITEM])
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}


def test_features_stand_side_by_side_in_the_lists_order():
    embedding = FeatureEmbedding([ITEM, PRICE, history()])
    x = {
        "item": torch.tensor([2]),
        "price": torch.tensor([[0.5, 7.0]]),
        "history": torch.tensor([[1, 3, 0]]),
    }
    table = embedding.tables["item"].weight
    expected = torch.cat([torch.tensor([0.5, 7.0]), table[2], (table[1] + table[3]) / 2])
    assert torch.allclose(embedding(x, [PRICE, ITEM, history()])[0], expected)
    assert total_dim([PRICE, ITEM, history()]) == 8
    assert list(embedding.tables) == ["item"]


def test_a_sum_counts_no_padding_wherever_it_stands():
    embedding = FeatureEmbedding([ITEM, history("sum")])
    left, right = (
        embedding({"history": torch.tensor([row])}, [history("sum")]) for row in ([0, 0, 1, 4], [4, 1, 0, 0])
    )
    table = embedding.tables["item"].weight
    assert torch.allclose(left, right)
    assert torch.allclose(left[0], table[1] + table[4])


def test_an_empty_history_is_zero():
    embedding = FeatureEmbedding([ITEM, history()])
    assert embedding({"history": torch.zeros(1, 4, dtype=torch.long)}, [history()]).tolist() == [[0, 0, 0]]


def test_the_paddings_vector_is_zero_and_stays_so():
    embedding = FeatureEmbedding([SparseFeature("item", 5, 3, padding_idx=0)])
    embedding({"item": torch.tensor([0, 1])}, [SparseFeature("item", 5, 3, padding_idx=0)]).sum().backward()
    assert embedding.tables["item"].weight[0].tolist() == [0, 0, 0]
    assert embedding.tables["item"].weight.grad[0].tolist() == [0, 0, 0]


def test_a_missing_feature_is_named():
    with pytest.raises(ValueError, match="must have the feature 'item', got 'price'"):
        FeatureEmbedding([ITEM])({"price": torch.zeros(1)}, [ITEM])


def test_a_table_to_share_must_exist_and_fit():
    with pytest.raises(ValueError, match="shares the table of 'item', which no feature has"):
        FeatureEmbedding([history()])
    with pytest.raises(ValueError, match=r"must have one shape, got \(5, 3\) and \(6, 3\)"):
        FeatureEmbedding([SparseFeature("item", 6, 3), history()])


def test_two_features_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two kinds of 'item'"):
        FeatureEmbedding([ITEM, SparseFeature("item", 6, 3)])


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling must be one of mean, sum, concat, got 'max'"):
        history("max")
