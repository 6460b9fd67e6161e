"""Counting, sizing, freezing: shared memory once, whole names only, and what the seed page's text breaks on."""

import pytest
import torch
from torch import nn

from genrec.layers.initialization import initialize_weights
from genrec.modules.parameters import ModelUtils


def page_freeze_layers(model, layer_names):
    """`ModelUtils.freeze_layers` as page 003 prints it."""
    for name, param in model.named_parameters():
        for layer_name in layer_names:
            if layer_name in name:
                param.requires_grad = False
                break


def page_get_model_size(model):
    """`ModelUtils.get_model_size` as page 003 prints it."""
    param_size = 0
    buffer_size = 0
    for param in model.parameters():
        param_size += param.nelement() * param.element_size()
    for buffer in model.buffers():
        buffer_size += buffer.nelement() * buffer.element_size()
    size_mb = (param_size + buffer_size) / 1024 / 1024
    return f"{size_mb:.2f} MB"


def frozen(model):
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


class Tower(nn.Module):
    """An embedding and twelve layers, and one without parameters."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 2)
        self.layers = nn.Sequential(*(nn.Linear(2, 2) for _ in range(12)))
        self.dropout = nn.Dropout()


def test_only_what_can_be_trained_is_counted():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert ModelUtils.count_parameters(model) == 3 * 2 + 2 + 2 + 2
    model[0].requires_grad_(False)
    assert ModelUtils.count_parameters(model) == 2 + 2


def test_the_size_is_that_of_parameters_and_buffers():
    model = nn.Linear(1024, 512, bias=False)
    model.register_buffer("table", torch.zeros(1024, 128, dtype=torch.float64))
    assert ModelUtils.get_model_size(model) == "3.00 MB"
    assert ModelUtils.get_model_size(model) == page_get_model_size(model)
    assert ModelUtils.get_model_size(model.half()) == "1.25 MB"


def test_memory_that_two_parameters_share_counts_once_while_the_page_counts_it_twice():
    model = nn.Sequential(nn.Embedding(1024, 256), nn.Linear(256, 1024, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.data)
    assert page_get_model_size(model) == "2.00 MB"
    assert ModelUtils.get_model_size(model) == "1.00 MB"


def test_a_model_without_memory_has_a_size():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(1024, 256, bias=False), nn.Linear(256, 1024, bias=False))
    assert ModelUtils.get_model_size(model) == "2.00 MB"


def test_a_layer_is_frozen_whole_and_alone_while_the_page_freezes_those_whose_name_begins_alike():
    pages, ours = Tower(), Tower()
    page_freeze_layers(pages, ["layers.1"])
    assert "layers.10.weight" in frozen(pages)
    ModelUtils.freeze_layers(ours, ["layers.1"])
    assert frozen(ours) == ["layers.1.weight", "layers.1.bias"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("embedding", ["embedding.weight"]),
        ("layers.11.bias", ["layers.11.bias"]),
        ("11", ["layers.11.weight", "layers.11.bias"]),
    ],
)
def test_a_name_matches_whole_or_from_dot_to_dot(name, expected):
    model = Tower()
    ModelUtils.freeze_layers(model, [name])
    assert frozen(model) == expected


def test_a_name_matches_within_a_larger_model():
    model = nn.ModuleDict({"encoder": Tower()})
    ModelUtils.freeze_layers(model, ["embedding"])
    assert frozen(model) == ["encoder.embedding.weight"]


def test_what_is_unfrozen_trains_again_and_the_rest_does_not():
    # the page's `layers.1` would also unfreeze layers 10 and 11
    model = Tower()
    ModelUtils.freeze_layers(model, ["embedding", "layers"])
    ModelUtils.unfreeze_layers(model, ["layers.1", "layers.3"])
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable == ["layers.1.weight", "layers.1.bias", "layers.3.weight", "layers.3.bias"]


@pytest.mark.parametrize("change", [ModelUtils.freeze_layers, ModelUtils.unfreeze_layers])
def test_a_name_without_a_match_gives_a_warning_that_lists_the_layers(change):
    with pytest.warns(UserWarning, match="no layer is named 'embed'; the model has embedding, layers, dropout"):
        change(Tower(), ["embed"])


def test_a_layer_without_parameters_is_no_mistake():
    model = Tower()
    ModelUtils.freeze_layers(model, ["dropout"])
    assert frozen(model) == []


def test_a_tied_weight_is_frozen_under_each_of_its_names_while_the_page_knows_one():
    pages, ours = (nn.ModuleDict({"embedding": nn.Embedding(5, 2), "head": nn.Linear(2, 5)}) for _ in range(2))
    for model in (pages, ours):
        model["head"].weight = model["embedding"].weight
    page_freeze_layers(pages, ["head"])
    assert pages["head"].weight.requires_grad
    ModelUtils.freeze_layers(ours, ["head"])
    assert not ours["head"].weight.requires_grad


def test_weights_are_initialised_by_the_function_that_the_models_use():
    assert ModelUtils.initialize_weights is initialize_weights
