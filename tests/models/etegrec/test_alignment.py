"""The alignments against arithmetic (float64)."""

import math

import pytest
import torch
import torch.nn.functional as F

from genrec.models.etegrec.alignment import (
    code_log_probabilities,
    cosines,
    first_occurrences,
    preference_semantic_alignment,
    sequence_item_alignment,
)


def drawn(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_the_first_row_of_each_distinct_target_is_kept_in_order_of_ids():
    targets = torch.tensor([9, 4, 9, 9, 1, 4])
    assert first_occurrences(targets).tolist() == [4, 1, 0]


def test_first_occurrences_equal_those_of_numpys_unique():
    targets = torch.randint(1, 30, (200,), generator=torch.Generator().manual_seed(0))
    rows = targets.tolist()
    assert first_occurrences(targets).tolist() == [rows.index(item) for item in sorted(set(rows))]


def test_the_nearest_code_is_the_likeliest():
    distances = torch.tensor([0.0, math.log(2), math.log(4)], dtype=torch.float64)
    # exp(-d) = 1, 1/2, 1/4, which sum to 7/4
    assert code_log_probabilities(distances, "paper").exp().tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_the_authors_code_makes_the_farthest_code_the_likeliest():
    distances = torch.tensor([0.0, math.log(2), math.log(4)], dtype=torch.float64)
    assert code_log_probabilities(distances, "authors").exp().tolist() == pytest.approx([1 / 7, 2 / 7, 4 / 7])


def test_an_unknown_sign_is_refused():
    with pytest.raises(ValueError, match="author"):
        code_log_probabilities(torch.zeros(2), "author")


# One target, two levels, three codes: distances whose exp(-d) are the odds below.
SEQUENCE = -torch.tensor([[[1.0, 2, 5], [1, 1, 1]]], dtype=torch.float64).log()


ITEM = -torch.tensor([[[1.0, 1, 1], [6, 1, 1]]], dtype=torch.float64).log()


EVEN = [1 / 3, 1 / 3, 1 / 3]


def test_sia_is_the_mean_over_items_and_levels_of_both_divergences():
    odds = [1 / 8, 2 / 8, 5 / 8]
    first_level = kl(odds, EVEN) + kl(EVEN, odds)
    odds = [6 / 8, 1 / 8, 1 / 8]
    second_level = kl(odds, EVEN) + kl(EVEN, odds)
    assert sequence_item_alignment(SEQUENCE, ITEM).item() == pytest.approx((first_level + second_level) / 2)


def test_sia_with_the_authors_sign_takes_the_inverse_odds():
    odds = [10 / 17, 5 / 17, 2 / 17]  # 1, 1/2, 1/5
    first_level = kl(odds, EVEN) + kl(EVEN, odds)
    odds = [1 / 13, 6 / 13, 6 / 13]  # 1/6, 1, 1
    second_level = kl(odds, EVEN) + kl(EVEN, odds)
    assert sequence_item_alignment(SEQUENCE, ITEM, "authors").item() == pytest.approx((first_level + second_level) / 2)


def test_sia_averages_over_targets_so_that_repeating_them_changes_nothing():
    sequence, item = drawn(4, 3, 5), drawn(4, 3, 5, seed=1)
    once = sequence_item_alignment(sequence, item)
    torch.testing.assert_close(sequence_item_alignment(sequence.repeat(3, 1, 1), item.repeat(3, 1, 1)), once)


def test_sia_is_symmetric():
    sequence, item = drawn(4, 3, 5), drawn(4, 3, 5, seed=1)
    torch.testing.assert_close(sequence_item_alignment(sequence, item), sequence_item_alignment(item, sequence))


def test_sia_of_equal_distributions_is_zero():
    distances = drawn(4, 3, 5)
    assert sequence_item_alignment(distances, distances + 7).item() == pytest.approx(0, abs=1e-12)


def test_psa_sums_both_directions_at_temperature_seven_hundredths():
    # unit vectors whose cosines are 1 and 0.6 on the diagonal, 0 and 0.8 off it
    reconstructions = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    preferences = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    s = [[1 / 0.07, 0.8 / 0.07], [0 / 0.07, 0.6 / 0.07]]
    rows = [math.log(sum(math.exp(x) for x in s[i])) - s[i][i] for i in range(2)]
    columns = [math.log(math.exp(s[0][i]) + math.exp(s[1][i])) - s[i][i] for i in range(2)]
    expected = sum(rows) / 2 + sum(columns) / 2
    assert preference_semantic_alignment(reconstructions, preferences).item() == pytest.approx(expected)


def test_psa_looks_at_directions_only():
    first, second = drawn(6, 3) - 0.5, drawn(6, 3, seed=1) - 0.5
    scaled = preference_semantic_alignment(first * 9, second * (1 + drawn(6, 1, seed=2)))
    torch.testing.assert_close(scaled, preference_semantic_alignment(first, second))


def test_psa_does_not_depend_on_the_order_of_the_targets():
    first, second, order = drawn(6, 3), drawn(6, 3, seed=1), torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = preference_semantic_alignment(first[order], second[order])
    torch.testing.assert_close(shuffled, preference_semantic_alignment(first, second))


def test_psa_of_a_single_target_is_zero():
    assert preference_semantic_alignment(drawn(1, 3), drawn(1, 3, seed=1)).item() == 0


def test_psa_of_matching_pairs_is_smaller_than_of_swapped_ones():
    vectors = torch.eye(4, dtype=torch.float64)
    matching, swapped = (
        preference_semantic_alignment(vectors, vectors[order]) for order in ([0, 1, 2, 3], [1, 0, 3, 2])
    )
    assert matching < 1e-4 < swapped


def test_cosines_are_of_all_pairs_and_of_lengths_one():
    first, second = drawn(2, 4, 3), drawn(2, 5, 3, seed=1)
    expected = F.cosine_similarity(first[:, :, None], second[:, None], dim=-1)
    torch.testing.assert_close(cosines(first * 7, second), expected)
