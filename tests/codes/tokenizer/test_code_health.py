"""The tokenizer's figures and the gates that refuse a collapsed one."""

import math

import pytest
import torch

from genrec.codes.tokenizer.code_health import check_gates, code_health
from genrec.errors import UserError


def test_uniform_codes_are_in_perfect_health():
    codes = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    health = code_health(codes, code_num=4)
    assert health["min_usage"] == health["min_entropy"] == 1
    assert health["collision_rate"] == 0
    assert health["largest_bucket"] == 1


def test_a_collapsed_level_is_the_worst_one():
    codes = torch.stack([torch.arange(8), torch.zeros(8, dtype=torch.long)], dim=1)
    health = code_health(codes, code_num=8)
    assert health["usage_level_0"] == 1
    assert health["min_usage"] == health["usage_level_1"] == 1 / 8
    assert health["min_entropy"] == health["entropy_level_1"] == 0


def test_entropy_is_relative_to_the_most_that_is_possible():
    codes = torch.tensor([[0], [0], [0], [1]])
    entropy = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    assert code_health(codes, code_num=2)["min_entropy"] == pytest.approx(entropy / math.log(2))
    # four items cannot fill 256 codes
    assert code_health(codes, code_num=256)["min_entropy"] == pytest.approx(entropy / math.log(4))


def test_perplexity_counts_equally_frequent_codes():
    uniform = code_health(torch.arange(6)[:, None], code_num=8)
    assert uniform["perplexity_level_0"] == uniform["perplexity"] == pytest.approx(6)
    assert code_health(torch.zeros(6, 1, dtype=torch.long), code_num=8)["perplexity"] == 1
    # as even as: half of the items one code, half two others
    skewed = code_health(torch.tensor([[0], [0], [1], [2]]), code_num=8)
    assert skewed["perplexity"] == pytest.approx(2**1.5)


def test_figures_of_whole_rows_count_semantic_ids():
    # each level uses both codes evenly, but they occur together only in two ways
    codes = torch.tensor([[0, 0], [1, 1], [0, 0], [1, 1]])
    health = code_health(codes, code_num=2)
    assert health["perplexity_level_0"] == health["perplexity_level_1"] == pytest.approx(2)
    assert health["perplexity"] == pytest.approx(2)
    assert health["entropy_level_0"] == 1
    assert health["entropy"] == pytest.approx(0.5)


def test_gates_name_each_figure_and_its_bound():
    health = {"min_usage": 0.25, "min_entropy": 0.9, "collision_rate": 0.5}
    with pytest.raises(UserError) as refusal:
        check_gates(health, min_usage=0.8, min_entropy=0.7, max_collision_rate=0.3)
    message = str(refusal.value)
    assert "min_usage 0.250 is below 0.8; collision_rate 0.500 is above 0.3" in message
    assert "min_entropy" not in message


def test_figures_at_their_bounds_pass():
    with pytest.raises(
        UserError, match=r"failed its gates \(build_digits.gates\): min_usage 0.100 is below 0.5. Do that"
    ):
        check_gates(
            {"min_usage": 0.1, "min_entropy": 1.0, "collision_rate": 0.0},
            0.5,
            0.7,
            0.3,
            "build_digits.gates",
            "Do that",
        )
    check_gates({"min_usage": 0.8, "min_entropy": 0.7, "collision_rate": 0.3}, 0.8, 0.7, 0.3)
