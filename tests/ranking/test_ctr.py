"""Networks of one label."""

import pytest
import torch

from genrec.ranking.ctr import DIN, DeepFM, LogisticRegression, WideDeep
from genrec.tasks.features import DenseFeature, SequenceFeature, SparseFeature

ITEM = SparseFeature("item", 6, 4)
USER = SparseFeature("user", 3, 4)
HISTORY = SequenceFeature("history", 6, 4, pooling="sum", shared_with="item")
PRICE = DenseFeature("price")
X = {
    "item": torch.tensor([1, 2, 3]),
    "user": torch.tensor([0, 1, 2]),
    "history": torch.tensor([[1, 2, 0], [4, 0, 0], [0, 0, 0]]),
    "price": torch.tensor([0.1, 0.2, 0.3]),
}
NETWORKS = {
    "logistic regression": lambda: LogisticRegression([ITEM, USER, PRICE]),
    "wide & deep": lambda: WideDeep([ITEM, PRICE], [ITEM, USER, HISTORY], (8,)),
    "DeepFM": lambda: DeepFM([ITEM, USER, HISTORY, PRICE], [ITEM, USER], (8,)),
    "DIN": lambda: DIN([USER, PRICE], [HISTORY], [ITEM], (8,), (4,)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_row_has_a_probability_of_its_own(name):
    network = NETWORKS[name]().eval()
    together = network(X)
    alone = torch.cat([network({key: value[i : i + 1] for key, value in X.items()}) for i in range(3)])
    assert together.shape == (3,)
    assert ((together > 0) & (together < 1)).all()
    assert torch.allclose(together, alone, atol=1e-6)


def test_padding_on_either_side_gives_equal_scores():
    network = NETWORKS["DIN"]().eval()
    left = X | {"history": torch.tensor([[0, 0, 1, 2], [0, 0, 0, 4], [0, 0, 0, 0]])}
    assert torch.allclose(network(left), network(X), atol=1e-6)


def test_fields_of_a_factorization_machine_are_equally_wide():
    with pytest.raises(ValueError, match="must be one or more of equal embed_dim, got {'item': 4, 'user': 5}"):
        DeepFM([ITEM], [ITEM, SparseFeature("user", 3, 5)])


def test_a_history_needs_its_target():
    with pytest.raises(ValueError, match=r"got history_features of \[4\] and target_features of \[\]"):
        DIN([USER], [HISTORY], [])
