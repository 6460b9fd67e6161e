"""The learned bias of a history's items: which place counts, from which position."""

import torch

from genrec.networks.sequential.repeats import SPEED, RepeatBias, visible_repeats


def bias_of(*values):
    bias = RepeatBias(len(values))
    bias.weight.data = torch.tensor(values) / SPEED
    return bias


def test_the_last_item_has_the_first_bias_and_the_one_before_it_the_second():
    scores = bias_of(-1.0, 2.0, 5.0).add_to(torch.zeros(1, 6), torch.tensor([[3, 5, 4]]))
    assert scores.tolist() == [[0, 0, 0, 5, -1, 2]]


def test_of_an_item_that_was_taken_twice_the_last_time_counts():
    scores = bias_of(-1.0, 2.0, 5.0).add_to(torch.zeros(1, 6), torch.tensor([[3, 5, 3]]))
    assert scores.tolist() == [[0, 0, 0, -1, 0, 2]]


def test_padding_on_either_side_changes_nothing():
    histories = torch.tensor([[3, 5, 4, 0, 0], [0, 0, 3, 5, 4], [0, 3, 5, 4, 0]])
    scores = bias_of(-1.0, 2.0, 5.0).add_to(torch.zeros(3, 6), histories)
    assert scores.tolist() == [[0, 0, 0, 5, -1, 2]] * 3


def test_items_farther_back_than_the_bias_reaches_share_its_last_number():
    scores = bias_of(1.0, 2.0).add_to(torch.zeros(1, 6), torch.tensor([[3, 5, 4, 1]]))
    assert scores.tolist() == [[0, 1, 0, 2, 2, 2]]


def test_a_position_sees_each_item_so_far_once_and_padding_never():
    history = torch.tensor([[7, 5, 7, 7, 0]])
    expected = [
        {0},
        {0, 1},
        {1, 2},  # the first 7 gives way to the second
        {1, 3},
        {1, 3},
    ]
    assert [set(row.nonzero()[:, 0].tolist()) for row in visible_repeats(history)[0]] == expected
