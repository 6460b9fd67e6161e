"""Order, repeats, k-core, ids and figures, by hand and against slow references."""

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec.data.preparation import TimeSplit, core_rows, describe, number_keys, prepare, sorted_rows
from genrec.errors import UserError
from genrec.sequences.histories import SPLITS

# user, item, time, rating; of the 3-core only u and v with a, b, c
ROWS = [
    ("v", "a", 30, 1.0),
    ("u", "c", 10, 2.0),
    ("u", "a", 10, 3.0),
    ("v", "b", 20, 4.0),
    ("w", "z", 10, 5.0),
    ("u", "b", 5, 6.0),
    ("v", "c", 10, 7.0),
]


def frame(rows, *columns):
    names = columns or ("user_key", "item_key", "time", "rating")
    table = pd.DataFrame(rows, columns=list(names))
    return table.astype({"user_key": "str", "item_key": "str"})


def prepared(interactions, user=3, item=1, repeats="keep", ties="file", split=None):
    return prepare(
        interactions,
        min_user_interactions=user,
        min_item_interactions=item,
        repeats=repeats,
        ties=ties,
        split=split,
    )


def histories_of(result):
    """The item keys of each user, by the user's key."""
    keys = result.items["item_key"].to_numpy()[result.histories.items - 1]
    parts = np.split(keys, result.histories.offsets[1:-1])
    return dict(zip(result.users["user_key"], map(list, parts), strict=True))


def test_histories_are_in_order_of_time_and_ties_in_the_files():
    assert histories_of(prepared(frame(ROWS))) == {"u": ["b", "c", "a"], "v": ["c", "b", "a"]}


def test_ids_count_the_kept_keys_in_their_order():
    result = prepared(frame(ROWS))
    assert result.users.to_dict("list") == {"user_id": [1, 2], "user_key": ["u", "v"]}
    assert result.items.to_dict("list") == {"item_id": [1, 2, 3], "item_key": ["a", "b", "c"]}


def test_interactions_stand_in_the_order_of_the_histories():
    result = prepared(frame(ROWS))
    assert result.interactions.to_dict("list") == {
        "user_id": [1, 1, 1, 2, 2, 2],
        "item_id": result.histories.items.tolist(),
        "time": [5, 10, 10, 10, 20, 30],
        "rating": [6, 2, 3, 7, 4, 1],
    }
    assert [str(result.interactions[name].dtype) for name in ("user_id", "item_id", "time")] == [
        "int32",
        "int32",
        "int64",
    ]


def test_figures_tell_what_was_read_and_what_is_left():
    assert prepared(frame(ROWS)).statistics == {
        "rows_read": 7,
        "users_read": 3,
        "items_read": 4,
        "repeats_dropped": 0,
        "n_users": 2,
        "n_items": 3,
        "n_interactions": 6,
        "density": 6 / (2 * 3),
        "mean_history": 6 / 2,
        "median_history": 3.0,
        "tied_pairs": 1,
        "tied_pairs_share": 1 / 4,
    }


@pytest.mark.parametrize(
    ("ties", "expected"), [("file", ["a", "b", "d", "c", "e"]), ("item", ["a", "b", "c", "d", "e"])]
)
def test_what_came_within_a_second_is_in_order(ties, expected):
    """Times were cut to whole seconds before sorting: the order within one was the file's, and looked tied."""
    times = {"e": (8, 0), "d": (7, 950), "a": (7, 100), "c": (7, 950), "b": (7, 500)}
    rows = [("u", item, *time) for item, time in times.items()]
    result = prepared(frame(rows, "user_key", "item_key", "time", "nanosecond"), ties=ties)
    assert histories_of(result) == {"u": expected}
    assert result.interactions["time"].tolist() == [7, 7, 7, 7, 8]
    assert list(result.interactions) == ["user_id", "item_id", "time"]
    assert (result.statistics["tied_pairs"], result.statistics["tied_pairs_share"]) == (1, 1 / 4)


def test_times_that_are_no_whole_numbers_are_refused_not_cut():
    rows = [("u", item, time) for item, time in (("a", 1.5), ("b", 1.25), ("c", 2.0))]
    with pytest.raises(ValueError, match="time must hold whole seconds as int64, got float64; put what is beyond into"):
        prepared(frame(rows, "user_key", "item_key", "time"))


def test_without_times_the_files_order_is_the_time():
    rows = [("u", "b"), ("v", "a"), ("u", "a"), ("v", "c"), ("u", "c"), ("v", "b")]
    result = prepared(frame(rows, "user_key", "item_key"))
    assert histories_of(result) == {"u": ["b", "a", "c"], "v": ["a", "c", "b"]}
    assert result.interactions["time"].tolist() == [0, 2, 4, 1, 3, 5]
    assert list(result.interactions) == ["user_id", "item_id", "time"]


def test_repeats_stay_or_go_after_the_first_in_time():
    rows = [("u", "a", 9), ("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("u", "b", 4)]
    table = frame(rows, "user_key", "item_key", "time")
    assert histories_of(prepared(table)) == {"u": ["a", "b", "c", "b", "a"]}
    dropped = prepared(table, repeats="drop")
    assert histories_of(dropped) == {"u": ["a", "b", "c"]}
    assert dropped.statistics["repeats_dropped"] == 2


def test_repeats_are_dropped_before_the_core_counts():
    rows = [("u", item, time) for time, item in enumerate("aabbcc")] + [("v", item, 0) for item in "abcd"]
    kept = prepared(frame(rows, "user_key", "item_key", "time"), user=4, repeats="drop")
    assert list(histories_of(kept)) == ["v"]


def tied(n_users=1, items="abcdefgh"):
    rows = [(f"u{user}", item, 0) for user in range(n_users) for item in reversed(items)]
    return frame(rows, "user_key", "item_key", "time")


@pytest.mark.parametrize(("ties", "expected"), [("file", list("hgfedcba")), ("item", list("abcdefgh"))])
def test_ties_follow_the_file_or_the_item(ties, expected):
    assert histories_of(prepared(tied(), ties=ties)) == {"u0": expected}


def test_hashed_ties_do_not_depend_on_the_files_order():
    table = tied(3)
    shuffled = table.sample(frac=1, random_state=0)
    assert histories_of(prepared(table, ties="hash")) == histories_of(prepared(shuffled, ties="hash"))


def test_hashed_ties_favour_no_item():
    """Of 200 users about 25 see each of the 8 items last; 4 standard deviations are 19."""
    last = Counter(history[-1] for history in histories_of(prepared(tied(200), ties="hash")).values())
    assert all(abs(last[item] - 200 / 8) < 4 * (200 * 1 / 8 * 7 / 8) ** 0.5 for item in "abcdefgh")


def test_hashed_ties_are_the_same_for_ever():
    assert histories_of(prepared(tied(), ties="hash")) == {"u0": list("badchefg")}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["10", "9", "1", "x"], ["1", "10", "9", "x"]),
        (["7", "007", "-3", "8"], ["-3", "007", "7", "8"]),
        (["b", "B", "a", "é", "z"], ["B", "a", "b", "z", "é"]),
        (["9" * 19, "1" * 20], ["1" * 20, "9" * 19]),
        (["٣", "2", "10"], ["10", "2", "٣"]),
    ],
)
def test_keys_are_ordered_by_number_or_else_by_character(keys, expected):
    assert number_keys(pd.Series(keys, dtype="str")).keys.tolist() == expected


def test_keys_are_told_apart_as_text():
    numbered = number_keys(pd.Series(["7", "007", "7"], dtype="str"))
    assert numbered.keys[numbered.codes].tolist() == ["7", "007", "7"]


def test_ids_and_order_do_not_depend_on_the_files_order():
    table = frame(ROWS)
    shuffled = table.iloc[[6, 5, 4, 3, 2, 1, 0]]
    one, two = prepared(table, ties="item"), prepared(shuffled, ties="item")
    pd.testing.assert_frame_equal(one.interactions, two.interactions)
    pd.testing.assert_frame_equal(one.items, two.items)


def slow_core(pairs, min_user, min_item):
    while True:
        users, items = Counter(user for user, _ in pairs), Counter(item for _, item in pairs)
        kept = [(user, item) for user, item in pairs if users[user] >= min_user and items[item] >= min_item]
        if kept == pairs:
            return kept
        pairs = kept


PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60)


@given(pairs=PAIRS, min_user=st.integers(1, 5), min_item=st.integers(1, 5))
def test_the_core_equals_a_slow_one(pairs, min_user, min_item):
    users, items = np.array(pairs, int).reshape(-1, 2).T
    rows = core_rows(users, items, min_user, min_item)
    assert [pairs[row] for row in rows] == slow_core(pairs, min_user, min_item)


@given(pairs=PAIRS, times=st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_the_order_equals_pythons_stable_sort(pairs, times):
    rows = [(f"u{user}", f"i{item}", time) for (user, item), time in zip(pairs, times, strict=False)]
    long_enough = {user for user, n in Counter(user for user, _, _ in rows).items() if n >= 3}
    expected = {
        user: [item for owner, item, _ in sorted(rows, key=lambda row: row[2]) if owner == user]
        for user in sorted(long_enough)
    }
    if expected:
        assert histories_of(prepared(frame(rows, "user_key", "item_key", "time"))) == expected


# the wider ones leave no bits for a row's place beside them
WIDTHS = st.sampled_from([1, 2**30, 2**60, 2**61, 2**62])


@given(pairs=PAIRS, scale=WIDTHS, shift=st.sampled_from([-(2**63), 0, *(2**k - 1 for k in range(56, 62))]))
def test_rows_are_sorted_as_numpys_lexsort_does(pairs, scale, shift):
    first, last = np.array(pairs, np.int64).reshape(-1, 2).T
    first = (first % 2) * np.int64(scale) + np.int64(shift)
    np.testing.assert_array_equal(sorted_rows(first, last), np.lexsort((first, last)))
    hashes = last.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    np.testing.assert_array_equal(sorted_rows(hashes, first), np.lexsort((hashes, first)))


def test_nothing_left_is_told_with_the_sizes_and_the_way_out():
    message = (
        "no interaction is left: of 7 read, 6 are of users with at least 3 and 0 of items with at least 4, but no set"
        " of users and items has both (the longest history has 3, the most frequent item 2);"
        " lower min_user_interactions or min_item_interactions"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        prepared(frame(ROWS), item=4)


def test_users_who_are_all_too_short_are_told():
    rows = [("u", "a", 1), ("v", "a", 1), ("v", "b", 1)]
    with pytest.raises(UserError, match=r"of 3 read, 0 are of users with at least 3 .* longest history has 2"):
        prepared(frame(rows, "user_key", "item_key", "time"))


def test_the_sources_columns_stand_beside_the_ids():
    numbered = pd.DataFrame({"item_id": [1, 2, 3], "item_key": ["a", "b", "c"]})
    table = pd.DataFrame({"item_key": ["c", "z", "a"], "year": pd.array([3, 9, 1], dtype="int64[pyarrow]")})
    described, without_row = describe(numbered, table)
    assert list(described) == ["item_id", "item_key", "year"]
    assert described["item_key"].tolist() == ["a", "b", "c"]
    assert described["year"].dropna().to_dict() == {0: 1, 2: 3}
    assert str(described["year"].dtype) == "int64[pyarrow]"
    assert without_row == 1


def test_without_a_table_no_item_has_a_row():
    numbered = pd.DataFrame({"item_id": [1, 2], "item_key": ["a", "b"]})
    described, without_row = describe(numbered, pd.DataFrame({"item_key": pd.Series([], dtype="str")}))
    assert list(described) == ["item_id", "item_key"]
    assert without_row == 2


def test_an_interaction_at_the_time_of_the_users_one_before_is_tied():
    rows = [("a", "x", 5), ("a", "y", 5), ("a", "z", 6), ("b", "x", 6), ("b", "y", 7), ("b", "z", 7)]
    interactions = pd.DataFrame(rows, columns=["user_key", "item_key", "time"])
    prepared = prepare(interactions, min_user_interactions=3, min_item_interactions=1, repeats="keep", ties="file")
    assert prepared.histories.tied.tolist() == [False, True, False, False, False, True]


# u and v span all of 20 days, w comes on day 12, x is gone after day 6; each has an item a day, y alone after day 15
DAY = 86_400
SPANS = {"u": range(20), "v": range(0, 20, 2), "w": range(12, 20), "x": range(6)}
LOG = [(user, "y" if user == "v" and day > 15 else f"i{day % 4}", DAY * day) for user in SPANS for day in SPANS[user]]


def in_time(first, second, targets="all", rows=LOG):
    split = TimeSplit(first, second, targets == "all")
    return prepared(frame(rows, "user_key", "item_key", "time"), split=split)


def days_of_targets(result, split):
    times = result.interactions["time"].to_numpy()
    return (times[result.histories.examples(split).ends] // DAY).tolist()


@pytest.mark.parametrize(
    "moments",
    [("1970-01-11", "1970-01-16"), ("1970-01-11T00:00:00+00:00", "1970-01-15T23:00:00-01:00"), (21 / 44, 32 / 44)],
)
def test_two_moments_cut_the_log_for_all_users_alike(moments):
    result = in_time(*moments)
    assert days_of_targets(result, "train") == [*range(1, 10), 2, 4, 6, 8, *range(1, 6)]
    assert days_of_targets(result, "validation") == [*range(10, 15), 10, 12, 14, 13, 14]
    assert days_of_targets(result, "test") == [*range(15, 20), 16, 18, *range(15, 20)]
    assert (result.statistics["train_until"], result.statistics["validate_until"]) == (10 * DAY, 15 * DAY)


def test_the_split_says_what_stands_where_and_who_is_new():
    statistics = in_time("1970-01-11", "1970-01-16").statistics
    assert {name: statistics[name] for name in statistics if "train_" in name or "_targets" in name} == {
        "train_until": 10 * DAY,
        "n_train_interactions": 21,
        "n_validation_targets": 10,
        "n_test_targets": 12,
    }
    assert (statistics["n_validation_users"], statistics["n_test_users"]) == (3, 3)
    assert (statistics["n_new_users"], statistics["n_new_items"]) == (1, 1)


def test_of_each_user_the_first_target_may_stand_for_all():
    result = in_time("1970-01-11", "1970-01-16", "first")
    assert (days_of_targets(result, "validation"), days_of_targets(result, "test")) == ([10, 10, 13], [15, 16, 15])


@given(st.floats(0.2, 0.6), st.floats(0.65, 0.9), st.sampled_from(["first", "all"]))
def test_nothing_of_an_earlier_split_is_later_than_anything_of_a_later_one(first, second, targets):
    result = in_time(first, second, targets)
    times, histories = result.interactions["time"].to_numpy(), result.histories
    known = [times[histories.examples(split).ends] for split in SPLITS]
    assert max(known[0]) < result.statistics["train_until"] <= min(known[1])
    assert max(known[1]) < result.statistics["validate_until"] <= min(known[2])


def test_interactions_of_one_second_stand_on_one_side():
    rows = [(user, item, 7 * (step // 3)) for user in "uv" for step, item in enumerate("abcdefghi")]
    result = in_time(0.4, 0.7, rows=rows)  # the 7th and the 12th of eighteen
    assert (result.statistics["train_until"], result.statistics["validate_until"]) == (7, 14)
    assert result.statistics["n_train_interactions"] == 6


def test_the_default_split_holds_back_the_last_two_and_says_nothing_of_moments():
    result = prepared(frame(LOG, "user_key", "item_key", "time"))
    assert result.histories.cuts is None
    assert not {"train_until", "n_new_users"} & result.statistics.keys()


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (0.8, 0.3, "train_until must be before validate_until, got 0.8, .* and 0.3"),
        ("1960-01-01", 0.9, "got 0 interactions to learn from"),
        (0.5, "1999-01-01", "targets of 3 and 0 users; move prepare_data.time"),
        ("1970-01-11", "1970-01-11", "set them further apart"),
    ],
)
def test_moments_that_leave_a_part_empty_are_refused(first, second, message):
    with pytest.raises(UserError, match=message):
        in_time(first, second)


def test_data_without_times_cannot_be_split_in_time():
    rows = frame([row[:2] for row in LOG], "user_key", "item_key")
    with pytest.raises(
        UserError, match="have no times; name their column as fetch_data.columns.time, or set .*one_out"
    ):
        prepared(rows, split=TimeSplit(0.8, 0.9, False))


def test_times_since_each_users_own_beginning_cannot_be_split_in_time():
    rows = [(f"u{user}", f"i{step}", DAY * step * (user + 1)) for user in range(12) for step in range(6)]
    with pytest.raises(UserError, match="each of the 12 users begins at second 0: .* or set .*leave_one_out"):
        in_time(0.5, 0.75, rows=rows)
    assert in_time(0.5, 0.75, rows=[(user, item, time + (user == "u3")) for user, item, time in rows]).histories.cuts
    assert prepared(frame(rows, "user_key", "item_key", "time")).histories.cuts is None
