"""Leave-one-out windows, cut and padded, and what is saved."""

import hashlib
import itertools

import numpy as np
import pytest

from genrec.errors import UserError
from genrec.sequences.histories import SPLITS, Histories, TimeCuts


@pytest.fixture
def histories():
    """Users of 5, 3 and 4 interactions."""
    return Histories(np.array([1, 2, 3, 4, 5, 6, 7, 8, 5, 4, 3, 2], np.int32), np.array([0, 5, 8, 12]), n_items=8)


def windows(histories, split):
    examples = histories.examples(split)
    return [
        (histories.items[start:end].tolist(), int(target))
        for start, end, target in zip(examples.starts, examples.ends, histories.targets(examples), strict=True)
    ]


def test_the_last_interaction_is_tested(histories):
    assert windows(histories, "test") == [([1, 2, 3, 4], 5), ([6, 7], 8), ([5, 4, 3], 2)]


def test_the_last_but_one_validates(histories):
    assert windows(histories, "validation") == [([1, 2, 3], 4), ([6], 7), ([5, 4], 3)]


def test_every_earlier_interaction_with_a_history_trains(histories):
    assert windows(histories, "train") == [([1], 2), ([1, 2], 3), ([5], 4)]


def test_each_target_is_in_one_split_only(histories):
    ends = np.concatenate([histories.examples(split).ends for split in SPLITS])
    assert len(set(ends.tolist())) == len(ends) == len(histories.items) - histories.n_users


def test_the_train_part_lacks_both_held_out_interactions(histories):
    part = histories.train_part()
    assert part.items.tolist() == [1, 2, 3, 6, 5, 4]
    assert part.offsets.tolist() == [0, 3, 4, 6]
    assert part.n_items == 8


def test_a_cut_keeps_the_last_items(histories):
    assert histories.padded(histories.examples("test").cut(2)).tolist() == [[3, 4], [6, 7], [4, 3]]


def test_windows_are_padded_on_the_right(histories):
    assert histories.padded(histories.examples("test"), width=5).tolist() == [
        [1, 2, 3, 4, 0],
        [6, 7, 0, 0, 0],
        [5, 4, 3, 0, 0],
    ]


def test_no_windows_make_an_empty_rectangle(histories):
    none = histories.examples("test").take(np.array([], int))
    assert histories.padded(none).shape == (0, 1)


def test_what_is_saved_is_loaded(histories, tmp_path):
    histories.save(tmp_path / "histories.npz")
    loaded = Histories.load(tmp_path / "histories.npz")
    assert loaded.items.tolist() == histories.items.tolist()
    assert loaded.offsets.tolist() == histories.offsets.tolist()
    assert (loaded.items.dtype, loaded.offsets.dtype, loaded.n_items) == (np.int32, np.int64, 8)
    assert loaded.tied.tolist() == [False] * 12


def tied_histories():
    """Two users of four items: three of one time, then the second user's first two, which follow directly."""
    tied = np.array([False, False, True, True, False, True, False, False])
    return Histories(np.arange(1, 9, dtype=np.int32), np.array([0, 4, 8]), n_items=8, tied=tied)


def test_ties_are_saved_with_their_items(tmp_path):
    tied_histories().save(tmp_path / "histories.npz")
    assert Histories.load(tmp_path / "histories.npz").tied.tolist() == tied_histories().tied.tolist()


def test_shuffled_ties_have_every_order_and_nothing_else_moves():
    orders = {tuple(tied_histories().with_ties_shuffled(np.random.default_rng(seed)).items) for seed in range(200)}
    assert {order[1:4] for order in orders} == {*itertools.permutations((2, 3, 4))}
    assert {order[4:6] for order in orders} == {(5, 6), (6, 5)}
    assert {(order[0], *order[6:]) for order in orders} == {(1, 7, 8)}
    assert len(orders) == 12  # a missing one of the twelve would have a chance of 12 * (11 / 12) ** 200, 3e-7


def test_what_is_held_out_never_enters_the_part_that_is_shuffled():
    """The first user's last two items are held out, though they share the time of the one before."""
    part = tied_histories().train_part()
    shuffled = {tuple(part.with_ties_shuffled(np.random.default_rng(seed)).items) for seed in range(20)}
    assert shuffled == {(1, 2, 5, 6), (1, 2, 6, 5)}


def test_without_known_times_nothing_is_shuffled(histories):
    assert histories.with_ties_shuffled(np.random.default_rng(0)) is histories


def test_the_same_histories_make_the_same_bytes_with_every_python(histories, tmp_path):
    # written by numpy, 33 bytes of the zip archive were others before Python 3.11.4, and DVC saw other histories
    histories.save(tmp_path / "histories.npz")
    content = (tmp_path / "histories.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "56662df47f52741e44ee5fbb127c9cd1bd9853bc681583873c68207cecdf216d"


def cut_histories(all_targets):
    """Users who are cut in the middle, before their first, after their last, and between the moments alone."""
    items, offsets = np.arange(1, 15, dtype=np.int32), np.array([0, 5, 8, 11, 14])
    cuts = TimeCuts(np.array([2, 5, 11, 11]), np.array([3, 5, 11, 14]), all_targets)
    return Histories(items, offsets, n_items=14, cuts=cuts)


def test_in_time_what_is_before_the_first_moment_trains():
    histories = cut_histories(all_targets=True)
    assert windows(histories, "train") == [([1], 2), ([9], 10), ([9, 10], 11)]
    part = histories.train_part()
    assert part.items.tolist() == [1, 2, 9, 10, 11]
    assert part.offsets.tolist() == [0, 2, 2, 5, 5]


def test_in_time_every_later_interaction_is_a_target_behind_all_before_it_but_a_users_first():
    histories = cut_histories(all_targets=True)
    assert windows(histories, "validation") == [([1, 2], 3), ([12], 13), ([12, 13], 14)]
    assert windows(histories, "test") == [([1, 2, 3], 4), ([1, 2, 3, 4], 5), ([6], 7), ([6, 7], 8)]
    assert histories.users_of(histories.examples("test")).tolist() == [1, 1, 2, 2]


def test_in_time_each_users_first_target_may_stand_for_all():
    histories = cut_histories(all_targets=False)
    assert windows(histories, "train") == windows(cut_histories(all_targets=True), "train")
    assert windows(histories, "validation") == [([1, 2], 3), ([12], 13)]
    assert windows(histories, "test") == [([1, 2, 3], 4), ([6], 7)]
    assert histories.users_of(histories.examples("validation")).tolist() == [1, 4]


def test_leave_one_out_has_a_target_of_each_user(histories):
    for split in ("validation", "test"):
        assert histories.users_of(histories.examples(split)).tolist() == [1, 2, 3]


@pytest.mark.parametrize("all_targets", [False, True])
def test_cuts_are_saved_with_their_items(tmp_path, all_targets):
    cut_histories(all_targets).save(tmp_path / "histories.npz")
    loaded = Histories.load(tmp_path / "histories.npz")
    assert [windows(loaded, split) for split in SPLITS] == [windows(cut_histories(all_targets), s) for s in SPLITS]


@pytest.mark.parametrize("train_stops", [[2, 5, 12, 11], [4, 5, 11, 11], [2, 5, 11]])
def test_cuts_outside_of_a_history_are_refused(tmp_path, train_stops):
    cuts = TimeCuts(np.array(train_stops), np.array([3, 5, 11, 14]), all_targets=True)
    Histories(np.arange(1, 15, dtype=np.int32), np.array([0, 5, 8, 11, 14]), 14, cuts=cuts).save(tmp_path / "h.npz")
    with pytest.raises(UserError, match=r"cuts in time must lie within .*dvc repro -f prepare_data"):
        Histories.load(tmp_path / "h.npz")


def drawn(n_users=50):
    random = np.random.default_rng(5)
    offsets = np.concatenate([[0], np.cumsum(random.integers(0, 9, n_users))])
    tied = random.random(offsets[-1]) < 0.4
    tied[offsets[:-1][np.diff(offsets) > 0]] = False
    return Histories(random.integers(1, 31, offsets[-1]).astype(np.int32), offsets, 30, tied)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_the_train_part_is_its_blocks_one_after_another(monkeypatch, block):
    histories = drawn()
    whole = histories.train_part()
    monkeypatch.setattr("genrec.sequences.histories.BLOCK", block)
    blocks = list(histories.train_blocks())
    assert np.concatenate([each.items for each in blocks]).tolist() == whole.items.tolist()
    assert np.concatenate([each.tied for each in blocks]).tolist() == whole.tied.tolist()
    assert np.concatenate([each.lengths for each in blocks]).tolist() == whole.lengths.tolist()
    assert max(len(each.items) for each in blocks) <= max(block, 8)
    assert histories.train_counts().tolist() == np.bincount(whole.items, minlength=31).tolist()


@pytest.mark.parametrize("max_history", [1, 3, 100])
def test_windows_that_are_not_listed_are_those_that_are(max_history):
    histories = drawn()
    listed, runs = histories.examples("train").cut(max_history), histories.train_windows().cut(max_history)
    rows = np.random.default_rng(0).permutation(len(listed))
    assert len(runs) == len(listed)
    assert runs.take(rows).starts.tolist() == listed.starts[rows].tolist()
    assert runs.take(rows).ends.tolist() == listed.ends[rows].tolist()


def test_loaded_histories_are_views_of_their_file(histories, tmp_path):
    histories.save(tmp_path / "histories.npz")
    loaded = Histories.load(tmp_path / "histories.npz")
    assert not loaded.items.flags.owndata
    assert not loaded.items.flags.writeable
    assert loaded.items.tolist() == histories.items.tolist()
    assert loaded.offsets.tolist() == histories.offsets.tolist()


def test_of_all_users_the_same_is_held_out_as_by_leave_one_out(histories):
    some = histories.held_out_of(3)
    assert all(windows(some, split) == windows(histories, split) for split in SPLITS)


def test_who_is_not_held_out_trains_with_everything(histories):
    some = histories.held_out_of(2)  # the first and the second of three
    assert windows(some, "test") == [([1, 2, 3, 4], 5), ([6, 7], 8)]
    assert windows(some, "validation") == [([1, 2, 3], 4), ([6], 7)]
    assert windows(some, "train") == [([1], 2), ([1, 2], 3), ([5], 4), ([5, 4], 3), ([5, 4, 3], 2)]
    assert some.users_of(some.examples("test")).tolist() == [1, 2]
    assert some.holds_out_some
    assert not histories.holds_out_some
