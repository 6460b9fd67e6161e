"""Initial weights: what is drawn, what is left alone, and what the seed page's text breaks on."""

import math

import pytest
import torch
from torch import nn

from genrec.layers.initialization import initialize_weights


def page_initialize_weights(model, init_type="xavier"):
    """`ModelUtils.initialize_weights` as page 003 prints it."""
    for name, param in model.named_parameters():
        if "weight" in name:
            if init_type == "xavier":
                nn.init.xavier_uniform_(param)
            elif init_type == "kaiming":
                nn.init.kaiming_uniform_(param)
            elif init_type == "normal":
                nn.init.normal_(param, mean=0, std=0.02)
        elif "bias" in name:
            nn.init.constant_(param, 0)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def linears():
    return nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 50))


@pytest.mark.parametrize("init_type", ["xavier", "kaiming", "normal"])
def test_matrices_and_biases_get_what_the_page_gives_them(init_type):
    ours, pages = linears(), linears()
    torch.manual_seed(1)
    initialize_weights(ours, init_type)
    torch.manual_seed(1)
    page_initialize_weights(pages, init_type)
    for first, second in zip(ours.parameters(), pages.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("init_type", "std"), [("xavier", math.sqrt(2 / 70)), ("kaiming", math.sqrt(2 / 40)), ("normal", 0.02)]
)
def test_each_type_has_the_spread_of_its_paper(init_type, std):
    model = linears()
    initialize_weights(model, init_type)
    assert model[0].weight.std().item() == pytest.approx(std, rel=0.1)
    assert (model[0].bias == 0).all()


@pytest.mark.parametrize("init_type", ["xavier", "kaiming"])
@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.BatchNorm1d(4)])
def test_a_normalisation_layer_does_no_harm_where_the_page_raises(init_type, norm):
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        page_initialize_weights(nn.Sequential(nn.Linear(4, 4), norm), init_type)
    initialize_weights(nn.Sequential(nn.Linear(4, 4), norm), init_type)
    assert (norm.weight == 1).all()
    assert (norm.bias == 0).all()


def test_the_gain_of_a_normalisation_layer_stays_one_where_the_page_all_but_silences_it():
    pages, ours = nn.LayerNorm(64), nn.LayerNorm(64)
    page_initialize_weights(pages, "normal")
    assert pages.weight.abs().max() < 0.1
    initialize_weights(ours, "normal")
    assert (ours.weight == 1).all()


def test_an_unknown_type_is_refused_with_the_choices_while_the_page_does_nothing():
    model = linears()
    before = model[0].weight.clone()
    page_initialize_weights(model, "xaver")
    assert torch.equal(model[0].weight, before)
    with pytest.raises(ValueError, match=r"\('xavier', 'kaiming', 'normal'\), got 'xaver'"):
        initialize_weights(model, "xaver")


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_a_padding_row_stays_zero_where_the_page_draws_it(kind):
    model = nn.Sequential(kind(9, 4, padding_idx=2))
    page_initialize_weights(model)
    assert (model[0].weight[2] != 0).all()
    initialize_weights(model)
    assert (model[0].weight[2] == 0).all()
    assert (model[0].weight[3] != 0).all()


def test_recurrent_layers_are_drawn_too():
    model = nn.GRU(4, 6)
    initialize_weights(model, "normal")
    assert model.weight_hh_l0.abs().max() < 0.1
    assert (model.bias_hh_l0 == 0).all()


def test_parameters_of_other_names_are_left_alone():
    model = nn.Linear(3, 3)
    model.scale = nn.Parameter(torch.full((2, 2), 7.0))
    initialize_weights(model)
    assert (model.scale == 7).all()
