"""Groups of users, counted by hand."""

import numpy as np
import pytest

from genrec.evaluation.slices import (
    Groups,
    by_history_length,
    by_item_age,
    by_item_frequency,
    by_new_item,
    by_new_user,
    by_transition,
    overlap,
    quantile_groups,
    sliced_recall,
    wilson_interval,
)
from genrec.sequences.histories import Histories, TimeCuts

# In training 1 2, 3 2, 1 2; then a validation item, then the test's target.
HISTORIES = Histories(np.array([1, 2, 1, 2, 3, 2, 2, 3, 1, 2, 4, 1], np.int32), np.array([0, 4, 8, 12]), n_items=4)


def test_targets_are_grouped_by_their_training_interactions():
    # item 2 was taken three times, item 3 once, item 1 twice
    groups = by_item_frequency(HISTORIES)
    assert groups.labels == ("1", "2", "3")
    assert groups.of_users.tolist() == [2, 0, 1]


def test_users_are_grouped_by_what_stands_before_the_target():
    histories = Histories(np.ones(12, np.int32), np.array([0, 3, 12]), n_items=1)
    assert by_history_length(histories).labels == ("2", "8")
    assert by_history_length(histories).of_users.tolist() == [0, 1]


def test_a_transition_counts_only_within_one_user_and_only_in_training():
    # 1 then 2 was seen; 2 then 3 stands only across two users' training parts (1 2 | 3 2); 4 then 1 never
    groups = by_transition(HISTORIES)
    assert groups.labels == ("seen in training", "never seen")
    assert groups.of_users.tolist() == [0, 1, 1]


def test_a_user_whose_training_part_is_empty_cuts_no_transition_in_two():
    histories = Histories(np.array([1, 2, 1, 2, 3, 3], np.int32), np.array([0, 4, 6]), n_items=3)
    assert by_transition(histories).of_users.tolist() == [0, 1]


def test_the_age_of_an_item_is_that_of_its_first_training_interaction():
    times = np.array([5, 6, 90, 91, 30, 31, 92, 93, 7, 8, 94, 95])
    # first seen: item 1 at 5, item 2 at 6, item 3 at 30; item 4 never in training
    groups = by_item_age(HISTORIES, times, n_groups=3)
    assert groups.labels == ("oldest", "2 of 3", "newest", "not in training")
    assert groups.of_users.tolist() == [1, 2, 0]


def test_a_target_that_training_never_had_has_no_age():
    histories = Histories(np.array([1, 1, 2], np.int32), np.array([0, 3]), n_items=2)
    assert by_item_age(histories, np.array([1, 2, 3])).of_users.tolist() == [5]


# Of the same users the first has trained on three, the second on none, the third on one; all later ones are tested.
CUTS = TimeCuts(np.array([3, 4, 9]), np.array([3, 4, 9]), all_targets=True)
IN_TIME = Histories(HISTORIES.items, HISTORIES.offsets, n_items=4, cuts=CUTS)


def test_in_time_a_group_holds_targets_of_users():
    assert by_history_length(IN_TIME).of_users.tolist() == [2, 0, 1, 2, 0, 1, 2]
    assert by_item_frequency(IN_TIME).labels == ("0", "1", "3")
    assert by_transition(IN_TIME).of_users.tolist() == [0, 1, 1, 1, 0, 1, 1]


def test_in_time_users_and_items_of_which_nothing_was_learned_are_new():
    assert by_new_user(IN_TIME).of_users.tolist() == [0, 1, 1, 1, 0, 0, 0]
    assert by_new_item(IN_TIME).of_users.tolist() == [0, 0, 0, 1, 0, 1, 0]
    assert not by_new_user(HISTORIES).of_users.any()


def test_in_time_the_age_of_an_item_is_that_of_what_trained():
    times = np.array([5, 6, 7, 90, 1, 2, 3, 4, 8, 94, 95, 96])
    # item 1 at 5, item 2 at 6; what the second user took earlier was not learned from
    assert by_item_age(IN_TIME, times, n_groups=2).of_users.tolist() == [1, 1, 1, 2, 1, 2, 0]


def test_targets_of_one_user_count_as_one_draw():
    groups, user_ids = Groups(("a", "b"), np.array([0, 0, 0, 0, 1])), np.array([1, 1, 2, 2, 2])
    found = sliced_recall(np.array([1, 1, 9, 9, 1], np.int32), groups, 5, user_ids)
    assert [(each["users"], each.get("targets"), each["recall"]) for each in found] == [(2, 4, 0.5), (1, None, 1.0)]
    assert (found[0]["low"], found[0]["high"]) == wilson_interval(0.5, 2)


def test_equal_numbers_are_never_parted():
    groups = quantile_groups(np.array([3, 3, 3, 3, 8]), n_groups=5)
    assert groups.labels == ("3", "8")
    assert groups.of_users.tolist() == [0, 0, 0, 0, 1]


def test_recall_of_a_group_has_its_users_and_interval():
    groups = Groups(("a", "b", "nobody"), np.array([0, 0, 0, 0, 1, -1]))
    found = sliced_recall(np.array([1, 10, 11, 99, 99, 1], np.int32), groups, k=10)
    assert [(each["group"], each["users"], each["recall"]) for each in found] == [("a", 4, 0.5), ("b", 1, 0.0)]
    # by hand: (0.5 + 3.8415 / 8 ± 1.96 sqrt(0.0625 + 3.8415 / 64)) / (1 + 3.8415 / 4)
    assert (found[0]["low"], found[0]["high"]) == pytest.approx((0.1500, 0.8500), abs=1e-4)
    assert found[1]["low"] == 0
    assert found[1]["high"] == pytest.approx(0.7935, abs=1e-4)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_interval_stays_a_share(share):
    low, high = wilson_interval(share, 3)
    assert 0 <= low <= share <= high <= 1


def test_a_model_without_hits_shares_none():
    shared = overlap({"a": np.array([9, 9], np.int32), "b": np.array([1, 9], np.int32)}, k=5)
    assert shared == {"a": {"a": 0.0, "b": 0.0}, "b": {"a": 0.0, "b": 1.0}}
