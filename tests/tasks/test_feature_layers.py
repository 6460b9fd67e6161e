"""The layers of ranking networks against their definitions."""

import itertools

import torch

from genrec.tasks.feature_layers import Experts, LinearFeatures, TargetAttention, factorization_machine
from genrec.tasks.features import DenseFeature, SequenceFeature, SparseFeature


def test_the_factorization_machine_sums_the_products_of_all_pairs():
    fields = torch.randn(5, 4, 3)
    pairs = sum((fields[:, i] * fields[:, j]).sum(1) for i, j in itertools.combinations(range(4), 2))
    assert torch.allclose(factorization_machine(fields), pairs, atol=1e-5)


def test_attention_weighs_by_the_target_and_never_by_padding():
    attention = TargetAttention(3, (8,))
    history, target = torch.randn(2, 4, 3), torch.randn(2, 3)
    known = torch.tensor([[True, True, False, False], [True] * 4])
    result = attention(history, known, target)
    history[0, 2:] = 99.0
    assert torch.allclose(attention(history, known, target), result)
    assert not torch.allclose(attention(history, known, target + 1), result)
    order = torch.tensor([3, 1, 0, 2])
    assert torch.allclose(attention(history[:, order], known[:, order], target), result, atol=1e-5)


def test_experts_are_separate_networks():
    experts = Experts(3, 4, (5, 2))
    x = torch.randn(6, 4)
    together = experts(x)
    for i in range(3):
        hidden = (x @ experts.weights[0][i] + experts.biases[0][i]).relu()
        assert torch.allclose(together[i], (hidden @ experts.weights[1][i] + experts.biases[1][i]).relu(), atol=1e-6)


def test_the_linear_part_has_one_weight_a_category_and_number():
    features = [SparseFeature("a", 4, 8), SequenceFeature("b", 5, 8), DenseFeature("c", 2)]
    linear = LinearFeatures(features)
    x = {"a": torch.tensor([3]), "b": torch.tensor([[1, 2, 0]]), "c": torch.tensor([[1.0, 2.0]])}
    a, b = linear.embedding.tables["a"].weight, linear.embedding.tables["b"].weight
    expected = a[3] + b[1] + b[2] + linear.dense.weight @ x["c"][0] + linear.dense.bias + linear.bias
    assert torch.allclose(linear(x), expected)
