"""Dropout: how much it drops, what it keeps, that elements of one draw are independent, and layers that share one."""

import pytest
import torch

from genrec.layers.dropout import Dropout, SharedDropout


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_a_share_p_in_steps_of_one_256th_is_dropped():
    dropped = (Dropout(0.1)(torch.ones(1000, 1001)) == 0).double().mean().item()
    assert dropped == pytest.approx(26 / 256, abs=4 * (0.1 * 0.9 / 1_001_000) ** 0.5)


def test_what_is_kept_grows_so_that_the_mean_stays():
    values = Dropout(0.5)(torch.full((3, 7), 2.0)).unique().tolist()
    assert values == [0.0, 4.0]


def test_the_gradient_is_dropped_where_the_value_is():
    x = torch.ones(5, 13, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_neighbours_and_distant_elements_are_dropped_independently():
    dropped = (Dropout(0.5)(torch.ones(400_000)) == 0).double()
    for lag in (1, 7, 8, 64):
        both = (dropped[:-lag] * dropped[lag:]).mean().item()
        assert both == pytest.approx(0.25, abs=0.005)


def test_evaluation_and_p_0_change_nothing():
    x = torch.randn(4, 5)
    assert Dropout(0.9).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_the_same_seed_drops_the_same():
    masks = []
    for _ in range(2):
        torch.manual_seed(3)
        masks.append(Dropout(0.4).mask(torch.ones(11, 3)))
    assert torch.equal(*masks)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_p_outside_of_0_to_1_is_refused(p):
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got"):
        Dropout(p)


def passes(n_passes, n_layers, size):
    """What each layer of each pass drops, (n_passes, n_layers, size) float64."""
    dropout, dropped = SharedDropout(0.5), []
    for _ in range(n_passes):
        dropout.draw_anew()
        dropped.append(torch.stack([dropout.mask(torch.ones(size)) == 0 for _ in range(n_layers)]))
    return torch.stack(dropped).double()


def test_layers_that_share_a_draw_drop_the_right_share_independently_at_each_place():
    first, second = passes(4000, 2, 50).unbind(1)
    noise = 4 * (0.25 / 4000) ** 0.5
    assert (first.mean(0) - 0.5).abs().max() < noise
    # of the pairs of one place in both layers a quarter is dropped in both, as if they were drawn alone
    assert (first * second).mean().item() == pytest.approx(0.25, abs=0.005)
    assert ((first[:, :-1] * first[:, 1:]).mean(0) - 0.25).abs().max() < noise


def test_a_pass_knows_nothing_of_the_one_before():
    before, after = passes(2, 1, 200_000)[:, 0]
    assert (before * after).mean().item() == pytest.approx(0.25, abs=0.005)


def test_layers_of_a_pass_hold_one_draw_and_larger_ones_a_new_one():
    dropout = SharedDropout(0.5)
    small, large, other = (dropout.mask(torch.ones(size)) for size in (10, 100_000, 50))
    assert (
        large.untyped_storage().data_ptr() == other.untyped_storage().data_ptr() != small.untyped_storage().data_ptr()
    )


def test_the_same_seed_drops_the_same_in_all_layers():
    masks = []
    for _ in range(2):
        torch.manual_seed(3)
        masks.append(passes(2, 3, 11))
    assert torch.equal(*masks)
