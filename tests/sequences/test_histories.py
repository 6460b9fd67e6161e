"""Leave-one-out windows, cut and padded, and what is saved."""

import hashlib

import numpy as np
import pytest

from genrec.sequences.histories import SPLITS, Histories


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


def test_the_same_histories_make_the_same_bytes_with_every_python(histories, tmp_path):
    # written by numpy, 33 bytes of the zip archive were others before Python 3.11.4, and DVC saw other histories
    histories.save(tmp_path / "histories.npz")
    content = (tmp_path / "histories.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "64fe5bb2b0717be382579bcb9ffc70903fa598812cbc08eb204b33f3299e35bb"
