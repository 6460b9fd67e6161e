"""The penalties' sums, as Torch-RecHub's own tests state them."""

import pytest
import torch
from torch import nn

from genrec.tasks.regularization import Regularization


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 10)
        self.bag = nn.EmbeddingBag(5, 2)
        self.linear1, self.linear2 = nn.Linear(10, 5), nn.Linear(5, 1)
        self.norm = nn.BatchNorm1d(5)
        self.other_embed = nn.Parameter(torch.randn(5, 5))  # by its kind, not by its name


def sums(power):
    torch.manual_seed(0)
    network = Network()
    tables = [network.embedding.weight, network.bag.weight]
    dense = [*network.linear1.parameters(), *network.linear2.parameters(), network.other_embed]
    return network, *(sum(p.abs().pow(power).sum().item() for p in group) for group in (tables, dense))


def test_without_factors_there_is_no_penalty():
    assert Regularization().penalty(Network()) == 0
    assert Regularization().is_off


@pytest.mark.parametrize(("name", "power"), [("embedding_l1", 1), ("embedding_l2", 2)])
def test_embedding_factors_count_tables_alone(name, power):
    network, tables, _ = sums(power)
    assert Regularization(**{name: 1.0}).penalty(network).item() == pytest.approx(tables, rel=1e-5)


@pytest.mark.parametrize(("name", "power"), [("dense_l1", 1), ("dense_l2", 2)])
def test_dense_factors_count_all_others_but_norms(name, power):
    network, _, dense = sums(power)
    assert Regularization(**{name: 1.0}).penalty(network).item() == pytest.approx(dense, rel=1e-5)


def test_factors_add_up():
    network, tables1, dense1 = sums(1)
    _, tables2, dense2 = sums(2)
    expected = 0.1 * tables1 + 0.2 * tables2 + 0.3 * dense1 + 0.4 * dense2
    assert Regularization(0.1, 0.2, 0.3, 0.4).penalty(network).item() == pytest.approx(expected, rel=1e-5)


def test_it_reaches_every_weight_but_norms_and_frozen_ones():
    network = Network()
    network.linear2.bias.requires_grad = False
    Regularization(embedding_l2=0.01, dense_l2=0.01).penalty(network).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == ["linear2.bias", "norm.weight", "norm.bias"]
