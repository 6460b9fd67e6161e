"""Dropout: how much it drops, what it keeps, and that eight elements of one draw are independent."""

import pytest
import torch

from genrec.modules.dropout import Dropout


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
