"""Interactions to histories: order in time, repeats, k-core, ids and statistics, all over whole arrays.

Ids are 1..n in the order of the source's keys, by number where all of them are integers, else by their characters;
so they follow from the interactions alone, not from the order of the file's rows.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genrec.errors import UserError
from genrec.sequences.histories import EVALUATED_SPLITS, Histories, TimeCuts

Ties = Literal["file", "item", "hash"]
Repeats = Literal["keep", "drop"]

# So many users who all begin at one second do not share a clock; fewer may by chance.
FEWEST_BEGINNERS = 10


@dataclass(frozen=True)
class TimeSplit:
    """Two moments that cut the log: before the first trains, between them validates, from the second on tests.

    Attributes:
        train_until, validate_until: a moment as a date in ISO 8601, in UTC where it names no zone, or as a share of the
            interactions that are left after all filters: the time of the first one beyond that share.
        all_targets: whether every later interaction is a target, or each user's first alone.
    """

    train_until: float | str
    validate_until: float | str
    all_targets: bool


@dataclass(frozen=True)
class PreparedTables:
    """What all later stages work on, but for the interactions with all their columns.

    Attributes:
        users: user_id int32 1..n_users, user_key str.
        items: item_id int32 1..n_items, item_key str.
        statistics: figures by name.
    """

    histories: Histories
    users: pd.DataFrame
    items: pd.DataFrame
    statistics: dict[str, float]


@dataclass(frozen=True)
class Prepared(PreparedTables):
    """What all later stages work on.

    Attributes:
        interactions: user_id int32, item_id int32, time int64 (the position in the file where the source has none),
            rating float32 where the source has ratings; a row for each element of `histories.items`, in its order.
    """

    interactions: pd.DataFrame


@dataclass(frozen=True)
class Numbered:
    """Keys as numbers from 0, in the order of the keys.

    Attributes:
        codes: int64 (n_rows,).
        keys: (n_keys,) str, the key of each code.
    """

    codes: NDArray[np.int64]
    keys: pd.Index

    def take(self, rows: NDArray[np.int64]) -> "Numbered":
        return Numbered(self.codes[rows], self.keys)


def prepare(
    interactions: pd.DataFrame,
    *,
    min_user_interactions: int,
    min_item_interactions: int,
    repeats: Repeats,
    ties: Ties,
    split: TimeSplit | None = None,
) -> Prepared:
    """Order, filter and number interactions.

    Args:
        interactions: user_key, item_key, and where known time (whole numbers, or ValueError), nanosecond (what a time
            has beyond its second) and rating, in the file's order.
        repeats: whether a user's later interactions with an item stay; settled before anything is filtered.
        ties: what decides between equal times of a user: the file's order, the item's key, or a hash of user and
            item, which favours no item.
        split: None for leave-one-out.

    Raises:
        UserError: nothing is left, or the split in time leaves nothing to learn from or to test.
    """
    users, items = number_keys(interactions["user_key"]), number_keys(interactions["item_key"])
    times = interactions["time"].to_numpy() if "time" in interactions else np.arange(len(interactions))
    if times.dtype.kind not in "iu":
        raise ValueError(
            f"time must hold whole seconds as int64, got {times.dtype}; put what is beyond into nanosecond"
        )
    moments = moments_of(times, interactions["nanosecond"].to_numpy()) if "nanosecond" in interactions else times

    rows = order(users, items, moments, ties)
    if repeats == "drop":
        rows = rows[first_of_pairs(users.codes[rows], items.codes[rows])]
    repeats_dropped = len(interactions) - len(rows)
    rows = rows[core_rows(users.codes[rows], items.codes[rows], min_user_interactions, min_item_interactions)]
    if not len(rows):
        counts = np.bincount(users.codes), np.bincount(items.codes)
        raise UserError(nothing_left(*counts, min_user_interactions, min_item_interactions))

    user_ids, user_table = _number_kept(users.take(rows), "user")
    item_ids, item_table = _number_kept(items.take(rows), "item")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user_ids)[1:])])
    columns = {"user_id": user_ids, "item_id": item_ids, "time": times[rows]}
    if "rating" in interactions:
        columns["rating"] = interactions["rating"].to_numpy()[rows]
    tied = ties_of(user_ids, moments[rows])
    read = {"rows_read": len(interactions), "users_read": len(users.keys), "items_read": len(items.keys)}
    cuts, moments_cut = None, None
    if split is not None:
        check_has_times("time" in interactions)
        kept = times[rows]
        check_one_clock(np.unique(kept[offsets[:-1]]), len(user_table))
        moments_cut = cut_moments(split, len(kept), lambda place: int(np.partition(kept, place)[place]))
        n_before = [np.bincount(user_ids[kept < moment], minlength=len(offsets))[1:] for moment in moments_cut]
        cuts = TimeCuts(offsets[:-1] + n_before[0], offsets[:-1] + n_before[1], split.all_targets)
    histories = Histories(item_ids, offsets, n_items=len(item_table), tied=tied, cuts=cuts)
    figures = {**read, "repeats_dropped": repeats_dropped, **statistics(histories, moments_cut)}
    return Prepared(histories, user_table, item_table, figures, pd.DataFrame(columns))


def number_keys(keys: "pd.Series[str]") -> Numbered:
    """Number keys in their order: by value where all are integers, else by their characters.

    Example:
        >>> number_keys(pd.Series(["10", "9", "10", "009"], dtype="str")).keys.tolist()
        ['009', '9', '10']
        >>> number_keys(pd.Series(["10", "9", "b"], dtype="str")).codes.tolist()
        [0, 1, 2]
    """
    codes, found = pd.factorize(keys)
    distinct = pd.Series(found)
    places = distinct.argsort(kind="stable").to_numpy()
    # 18 digits fit an int64; longer keys go by their characters
    if distinct.str.fullmatch("-?[0-9]{1,18}").all():
        values = distinct.astype("int64").to_numpy()[places]
        places = places[np.argsort(values, kind="stable")]
    ranks = np.empty(len(places), np.int64)
    ranks[places] = np.arange(len(places))
    return Numbered(ranks[codes], pd.Index(distinct.iloc[places]))


def order(users: Numbered, items: Numbered, times: NDArray[np.int64], ties: Ties) -> NDArray[np.int64]:
    """int64 (n_rows,): the rows user by user, oldest first; what is equal by all rules stays in the file's order."""
    if ties == "file":
        return sorted_rows(times, users.codes)
    return sorted_rows(items.codes if ties == "item" else _pair_hashes(users, items), times, users.codes)


def moments_of(times: NDArray[np.int64], nanoseconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in time: the earlier the lower, equal where second and nanosecond are; never too large, as a sum could be.

    Example:
        >>> moments_of(np.array([7, 5, 7, 7]), np.array([0, 900, 100, 0])).tolist()
        [1, 0, 2, 1]
    """
    rows = sorted_rows(nanoseconds, times)
    is_later = (np.diff(times[rows]) != 0) | (np.diff(nanoseconds[rows]) != 0)
    moments = np.empty(len(rows), np.int64)
    moments[rows] = np.concatenate([[0], np.cumsum(is_later)])
    return moments


def sorted_rows(*keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """`np.lexsort` of integers, the last key first, several times faster.

    Example:
        >>> sorted_rows(np.array([2, 1, 1, 2]), np.array([5, 6, 5, 5])).tolist()
        [2, 0, 3, 1]
    """
    rows = _stable_argsort(keys[0])
    for key in keys[1:]:
        rows = rows[_stable_argsort(key[rows])]
    return rows


def _stable_argsort(key: NDArray[np.integer]) -> NDArray[np.int64]:
    bits = len(key).bit_length()
    low, high = (int(key.min()), int(key.max())) if len(key) else (0, 0)
    if high - low >= 1 << (63 - bits):
        return np.argsort(key, kind="stable")
    # key and place in one number: numpy sorts numbers with vector instructions, and no two are equal
    packed = (key - key.dtype.type(low)).astype(np.int64) << bits | np.arange(len(key))
    packed.sort()
    return packed & ((1 << bits) - 1)


def _pair_hashes(users: Numbered, items: Numbered) -> NDArray[np.uint64]:
    """uint64 (n_rows,), the same in every process."""
    return mixed_hashes(key_hashes(users.keys)[users.codes], key_hashes(items.keys)[items.codes])


def mixed_hashes(of_users: NDArray[np.uint64], of_items: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """uint64 (n_rows,), of two hashes a row one."""
    mixed = of_users ^ of_items
    # splitmix64's last steps: by XOR alone an item whose first bit no other item has would be last for every other user
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def key_hashes(keys: Iterable[str]) -> NDArray[np.uint64]:
    """uint64 (n_keys,), the first eight bytes of BLAKE2b."""
    digests = b"".join(blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(digests, "<u8")


def first_of_pairs(users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool (n_rows,): whether a row is the first of its user and item.

    Example:
        >>> first_of_pairs(np.array([0, 0, 1, 0]), np.array([5, 6, 5, 5])).tolist()
        [True, True, True, False]
    """
    pairs = users * (items.max(initial=0) + 1) + items
    return ~pd.Series(pairs).duplicated().to_numpy(bool)


def core_rows(
    users: NDArray[np.int64], items: NDArray[np.int64], min_user_interactions: int, min_item_interactions: int
) -> NDArray[np.int64]:
    """int64: the rows of the largest part in which every user and every item has enough interactions, in their order.

    Example: user 0 falls, so does item 8, which now has one user, and so user 1.
        >>> core_rows(np.array([0, 1, 1, 2, 2, 3, 3]), np.array([8, 8, 9, 7, 9, 7, 9]), 2, 2).tolist()
        [3, 4, 5, 6]
    """
    rows = np.arange(len(users))
    while True:
        enough = _enough(users, min_user_interactions) & _enough(items, min_item_interactions)
        if enough.all():
            return rows
        rows, users, items = rows[enough], users[enough], items[enough]


def _enough(codes: NDArray[np.int64], minimum: int) -> NDArray[np.bool_]:
    return (np.bincount(codes) >= minimum)[codes]


def nothing_left(
    of_users: NDArray[np.int64], of_items: NDArray[np.int64], min_user_interactions: int, min_item_interactions: int
) -> str:
    """What to tell whose filters leave nothing.

    Args:
        of_users, of_items: how many interactions each has.
    """
    return (
        f"no interaction is left: of {of_users.sum():,} read,"
        f" {of_users[of_users >= min_user_interactions].sum():,} are of users with at least {min_user_interactions} and"
        f" {of_items[of_items >= min_item_interactions].sum():,} of items with at least {min_item_interactions}, but no"
        f" set of users and items has both (the longest history has {of_users.max():,}, the most frequent item"
        f" {of_items.max():,}); lower min_user_interactions or min_item_interactions"
    )


def _number_kept(kept: Numbered, name: str) -> tuple[NDArray[np.int32], pd.DataFrame]:
    """Close the gaps that filtering left.

    Returns:
        int32 (n_rows,), the rows' ids from 1; and the table of ids and keys.
    """
    present = np.bincount(kept.codes, minlength=len(kept.keys)) > 0
    ids = np.cumsum(present, dtype=np.int32)
    return ids[kept.codes], pd.DataFrame({f"{name}_id": ids[present], f"{name}_key": kept.keys[present]})


def ties_of(user_ids: NDArray[np.int32], moments: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool (n_rows,): whether a row has the user and the moment of the row before; positions in a file are never tied.

    Example:
        >>> ties_of(np.array([1, 1, 1, 2]), np.array([5, 6, 6, 6])).tolist()
        [False, False, True, False]
    """
    tied = np.zeros(len(moments), bool)
    tied[1:] = (user_ids[1:] == user_ids[:-1]) & (moments[1:] == moments[:-1])
    return tied


def check_has_times(has_times: bool) -> None:
    """A split in time needs times.

    Raises:
        UserError: there are none.
    """
    if not has_times:
        raise UserError(
            "prepare_data.split: time cuts the data at two moments, but these interactions have no times; name their"
            " column as fetch_data.columns.time, or set prepare_data.split: leave_one_out"
        )


def check_one_clock(beginnings: NDArray[np.int64], n_users: int) -> None:
    """A split in time needs times that are of all users alike.

    Args:
        beginnings: the different times of users' first interactions.

    Raises:
        UserError: all users begin at one second, so that each has a clock of their own.
    """
    if len(beginnings) == 1 and n_users >= FEWEST_BEGINNERS:
        raise UserError(
            f"prepare_data.split: time cuts all users at the same moments, but each of the {n_users:,} users begins at"
            f" second {beginnings[0]:,}: these times count from a user's own first interaction; give times that count"
            " from one day for all, or set prepare_data.split: leave_one_out"
        )


def cut_moments(split: TimeSplit, n: int, nth: Callable[[int], int]) -> tuple[int, int]:
    """The two moments, in whole seconds: an interaction of a moment's own second is after it.

    Args:
        n: how many interactions there are.
        nth: a place from 0 to the time of the interaction there, in the order of times.

    Raises:
        UserError: the first is not before the second.

    Example:
        >>> times = [5, 6, 6, 7, 9]
        >>> cut_moments(TimeSplit(0.5, "1970-01-01T00:00:08", False), 5, times.__getitem__)
        (6, 8)
    """
    first, second = (
        _second_of(until) if isinstance(until, str) else nth(min(int(until * n), n - 1))
        for until in (split.train_until, split.validate_until)
    )
    if first >= second:
        raise UserError(
            f"prepare_data.time.train_until must be before validate_until, got {split.train_until!r}, which is second"
            f" {first:,} since 1970, and {split.validate_until!r}, which is {second:,}; set them further apart"
        )
    return first, second


def _second_of(date: str) -> int:
    """The first whole second since 1970 that is not before a date."""
    moment = pd.Timestamp(date)
    moment = moment.tz_localize("UTC") if moment.tz is None else moment
    return int(np.ceil(moment.timestamp()))


def statistics(histories: Histories, moments: tuple[int, int] | None = None) -> dict[str, float]:
    """The size of the data, how much of its order in time is given, and of a split in time what stands where.

    Args:
        moments: those of the split in time.

    Raises:
        UserError: the split in time leaves nothing to learn from or to test.
    """
    lengths = histories.lengths
    n_neighbours = np.maximum(lengths - 1, 0).sum()
    n_tied = 0 if histories.tied is None else histories.tied.sum()
    figures = {
        "n_users": histories.n_users,
        "n_items": histories.n_items,
        "n_interactions": len(histories.items),
        "density": len(histories.items) / (histories.n_users * histories.n_items),
        "mean_history": float(lengths.mean()),
        "median_history": float(np.median(lengths)),
        "tied_pairs": int(n_tied),
        "tied_pairs_share": float(n_tied / n_neighbours),
    }
    return figures if moments is None else {**figures, **_split_statistics(histories, moments)}


def _split_statistics(histories: Histories, moments: tuple[int, int]) -> dict[str, float]:
    """What stands before, between and after the moments, and which users and items training does not know."""
    n_learned, counts = int(histories.train_lengths.sum()), histories.train_counts()
    examples = {split: histories.examples(split) for split in EVALUATED_SPLITS}
    users = {split: len(np.unique(histories.users_of(each))) for split, each in examples.items()}
    if not len(histories.train_windows()) or min(users.values()) < 2:
        raise UserError(
            f"a split in time must leave two interactions of a user to learn from, and targets of two users between"
            f" the moments and after them, got {n_learned:,} interactions to learn from, and targets of"
            f" {users['validation']:,} and {users['test']:,} users; move prepare_data.time.train_until or"
            " .validate_until, or set prepare_data.split: leave_one_out"
        )
    return {
        "train_until": moments[0],
        "validate_until": moments[1],
        "n_train_interactions": n_learned,
        **{f"n_{split}_targets": len(each) for split, each in examples.items()},
        **{f"n_{split}_users": n for split, n in users.items()},
        "n_new_users": int((histories.train_lengths == 0).sum()),
        "n_new_items": int((counts[1:] == 0).sum()),
    }


def describe(numbered: pd.DataFrame, table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Put the source's own columns beside ids and keys.

    Args:
        numbered: an id and a key, as `prepare` gives them.
        table: the same key and further columns; rows of unknown keys are left out.

    Returns:
        One row an id, nulls where the table has none; and the number of those.

    Example:
        >>> numbered = pd.DataFrame({"item_id": [1, 2], "item_key": ["a", "b"]})
        >>> described, n_without = describe(numbered, pd.DataFrame({"item_key": ["c", "b"], "title": ["C", "B"]}))
        >>> described["title"].isna().tolist(), n_without
        ([True, False], 1)
    """
    key = numbered.columns[1]
    own = table.set_index(key).reindex(numbered[key]).reset_index(drop=True)
    without = ~numbered[key].isin(table[key])
    return pd.concat([numbered, own], axis=1), int(without.sum())
