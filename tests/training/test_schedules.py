"""Learning-rate factors as functions of the step."""

import math

import pytest

from genrec.training.schedules import learning_rate_factor

SCHEDULES = ("constant", "inverse_sqrt", "cosine")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_warm_up_starts_at_zero_and_rises_in_equal_steps(schedule):
    factor = learning_rate_factor(schedule, 4, 100)
    assert [factor(step) for step in range(5)] == [0, 1 / 4, 2 / 4, 3 / 4, 1]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_a_warm_up_the_first_step_has_the_peak_rate(schedule):
    assert learning_rate_factor(schedule, 0, 100)(0) == 1


def test_a_constant_rate_stays():
    assert learning_rate_factor("constant", 4, 100)(99) == 1


def test_the_inverse_square_root_halves_when_the_step_is_fourfold():
    factor = learning_rate_factor("inverse_sqrt", 10, 1000)
    assert factor(400) == pytest.approx(factor(100) / 2)


def test_the_cosine_is_one_half_midway_and_zero_at_the_end():
    factor = learning_rate_factor("cosine", 20, 120)
    assert factor(20 + 100 // 2) == pytest.approx(0.5)
    assert factor(120) == pytest.approx(0)


def test_the_cosine_equals_its_formula():
    factor = learning_rate_factor("cosine", 20, 120)
    assert factor(45) == pytest.approx((1 + math.cos(math.pi * 25 / 100)) / 2)


def test_the_cosine_does_not_rise_again_after_its_end():
    assert learning_rate_factor("cosine", 0, 100)(150) == 0


def test_a_warm_up_longer_than_the_run_never_exceeds_the_peak():
    factor = learning_rate_factor("cosine", 50, 10)
    assert max(factor(step) for step in range(60)) <= 1


def test_an_unknown_schedule_is_refused_at_once():
    with pytest.raises(ValueError, match="'linear'"):
        learning_rate_factor("linear", 0, 10)
