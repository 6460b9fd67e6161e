"""Networks of several labels."""

import pytest
import torch

from genrec.ranking.loss_weighting import task_gradients
from genrec.ranking.multi_task import ESMM, MMOE, PLE, Extraction, SharedBottom, mix
from genrec.tasks.features import SparseFeature

FEATURES = [SparseFeature("a", 10, 4), SparseFeature("b", 10, 6)]
TYPES = ["classification", "regression"]
X = {"a": torch.tensor([1, 2, 3, 4]), "b": torch.tensor([5, 6, 7, 8])}
NETWORKS = {
    "SharedBottom": lambda: SharedBottom(FEATURES, TYPES, (8,), (4,)),
    "MMOE": lambda: MMOE(FEATURES, TYPES, 3, (8,), (4,)),
    "PLE": lambda: PLE(FEATURES, TYPES, 2, 1, 2, (8,), (4,)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_classification_is_a_probability_and_a_regression_is_not_bounded(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    with torch.no_grad():
        network.towers.towers[0].layers[-1].bias.fill_(50.0)
        network.towers.towers[1].layers[-1].bias.fill_(50.0)
    outputs = network(X)
    assert outputs.shape == (4, 2)
    assert (outputs[:, 0] <= 1).all()
    assert (outputs[:, 1] > 40).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_all_tasks_reach_the_last_shared_layer_and_none_anothers_tower(name):
    network = NETWORKS[name]()
    outputs = network(X)
    named = dict(network.named_parameters())
    first, second = task_gradients([outputs[:, 0].sum(), outputs[:, 1].sum()], list(named.values()))
    reached = {key: (a is not None, b is not None) for key, a, b in zip(named, first, second, strict=True)}
    (last,) = [key for key, parameter in named.items() if parameter is network.last_shared_layer()]
    assert reached[last] == (True, True)
    assert {reached[key] for key in named if key.startswith("towers.towers.0")} == {(True, False)}
    assert {reached[key] for key in named if key.startswith("towers.towers.1")} == {(False, True)}


def test_a_gate_mixes_experts_by_its_softmax():
    experts = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert torch.allclose(mix(experts, torch.tensor([[3.0, 1.0]]).log()), torch.tensor([[0.75, 0.25]]))


def test_specific_experts_serve_their_task_alone():
    torch.manual_seed(0)
    level = Extraction(4, 2, 1, 1, (3,), mixes_shared=True)
    inputs = [torch.randn(5, 4) for _ in range(3)]
    before = level(inputs)
    with torch.no_grad():
        level.specific[1].weights[0].add_(1.0)
    after = level(inputs)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
    assert not torch.equal(before[2], after[2])


def test_both_is_click_times_conversion():
    conversion, click, both = ESMM(FEATURES, (8,)).eval()(X).unbind(1)
    assert torch.equal(both, conversion * click)


def test_unknown_tasks_are_refused():
    with pytest.raises(ValueError, match=r"must be a list of classification and regression, got \['ranking'\]"):
        SharedBottom(FEATURES, ["ranking"])
