"""The distribution that is sampled: against known answers and against plain loops over sorted codes."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from genrec.generation.sampling import shaped

HALF_THIRD_FIFTH = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64).log()


def slowly_shaped(log_probs, temperature, top_k, top_p):
    """Probabilities of one row, as the rules say in words; log_probs is a list, -inf where there is no code."""
    weights = {
        code: math.exp(log_prob / temperature) for code, log_prob in enumerate(log_probs) if log_prob > -math.inf
    }
    kept = sorted(weights, key=lambda code: -weights[code])[:top_k]
    total, summed, nucleus = sum(weights[code] for code in kept), 0.0, []
    for code in kept:
        if summed < (top_p or 1):
            nucleus.append(code)
        summed += weights[code] / total
    total = sum(weights[code] for code in nucleus)
    return [weights[code] / total if code in nucleus else 0.0 for code in range(len(log_probs))]


def test_temperature_one_changes_nothing():
    torch.testing.assert_close(shaped(HALF_THIRD_FIFTH), HALF_THIRD_FIFTH)


def test_a_temperature_of_a_half_squares_the_probabilities():
    expected = torch.tensor([9, 25, 4], dtype=torch.float64) / 38
    torch.testing.assert_close(shaped(HALF_THIRD_FIFTH, temperature=0.5).exp(), expected)


def test_a_high_temperature_makes_all_codes_alike():
    assert shaped(HALF_THIRD_FIFTH, temperature=1e9).exp().tolist() == pytest.approx([1 / 3] * 3)


def test_a_low_temperature_leaves_the_best_code():
    assert shaped(HALF_THIRD_FIFTH, temperature=1e-3).exp().tolist() == pytest.approx([0, 1, 0])


@pytest.mark.parametrize(
    ("top_p", "expected"), [(0.01, [0, 1, 0]), (0.49, [0, 1, 0]), (0.51, [0.375, 0.625, 0]), (0.81, [0.3, 0.5, 0.2])]
)
def test_the_nucleus_is_the_fewest_codes_that_reach_top_p(top_p, expected):
    assert shaped(HALF_THIRD_FIFTH, top_p=top_p).exp().tolist() == pytest.approx(expected)


def test_top_p_is_taken_of_what_top_k_left():
    # of all three the best has .5 < .6; of the best two .625
    assert shaped(HALF_THIRD_FIFTH, top_k=2, top_p=0.6).exp().tolist() == pytest.approx([0, 1, 0])


def test_of_equally_likely_codes_top_k_keeps_no_more_than_k():
    assert (shaped(torch.zeros(5), top_k=2) > -torch.inf).tolist() == [True, True, False, False, False]


def test_a_row_without_any_code_has_none_afterwards():
    nothing = torch.full((2, 3), -torch.inf)
    assert torch.equal(shaped(nothing, temperature=2.0, top_k=2, top_p=0.5), nothing)


def test_a_tiny_tail_is_kept_by_a_top_p_of_one():
    log_probs = torch.tensor([0.0, -80.0])
    assert (shaped(log_probs, top_p=1.0) > -torch.inf).all()


@given(
    st.lists(st.one_of(st.floats(-5, 0), st.just(-math.inf)), min_size=1, max_size=6),
    st.floats(0.2, 3),
    st.one_of(st.none(), st.integers(1, 8)),
    st.one_of(st.none(), st.floats(0.05, 0.95)),
)
def test_it_equals_the_rules_in_plain_python(row, temperature, top_k, top_p):
    assume(max(row) > -math.inf)
    uncut = torch.tensor(slowly_shaped(row, temperature, top_k, None)).sort(descending=True).values.cumsum(0)
    assume(top_p is None or (uncut - top_p).abs().min() > 1e-6)  # a sum that meets top_p may be rounded to either side
    result = shaped(torch.tensor(row, dtype=torch.float64), temperature, top_k, top_p).exp()
    assert result.tolist() == pytest.approx(slowly_shaped(row, temperature, top_k, top_p), abs=1e-9)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"temperature": float("nan")}, "temperature must be above 0, got nan"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        shaped(HALF_THIRD_FIFTH, **setting)
