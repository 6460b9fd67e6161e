"""Which users have a card."""

import numpy as np

from genrec.report.users_section import GROUPS, chosen_users


def test_ten_of_each_group_stand_at_even_distances():
    sample = np.arange(1, 91)
    hits = np.repeat([6, 2, 0], 30)
    chosen = chosen_users(sample, hits, n_models=6)
    assert [user for user, _ in chosen] == list(range(1, 91, 3))
    assert [group for _, group in chosen] == [group for group in GROUPS for _ in range(10)]


def test_half_of_the_models_are_most():
    chosen = chosen_users(np.array([7, 8]), np.array([2, 1]), n_models=4)
    assert chosen == [(7, GROUPS[0]), (8, GROUPS[1])]


def test_where_a_group_is_small_later_ones_give_more():
    sample, hits = np.arange(1, 101), np.repeat([6, 1, 0], [2, 3, 95])
    chosen = chosen_users(sample, hits, n_models=6)
    assert [sum(group == each for _, group in chosen) for each in GROUPS] == [2, 3, 25]
    assert len({user for user, _ in chosen}) == 30
