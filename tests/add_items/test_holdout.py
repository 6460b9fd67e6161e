"""Items that are held out: who is new, what is learned from, and which order stays arbitrary."""

import numpy as np
import pandas as pd
import pytest

from genrec.add_items.holdout import HeldOut
from genrec.errors import UserError
from genrec.sequences.histories import Histories, TimeCuts

N_ITEMS = 60


@pytest.fixture
def histories() -> Histories:
    random = np.random.default_rng(3)
    lengths = random.integers(3, 12, 80)
    items = random.integers(1, N_ITEMS + 1, lengths.sum()).astype(np.int32)
    return Histories(items, np.concatenate([[0], lengths.cumsum()]), N_ITEMS)


@pytest.fixture
def items() -> pd.DataFrame:
    ids = np.arange(1, N_ITEMS + 1, dtype=np.int32)
    return pd.DataFrame({"item_id": ids, "item_key": [f"i{item}" for item in ids]})


def test_one_item_in_twenty_is_new_and_every_interaction_keeps_its_item(histories, items):
    held = HeldOut.draw(histories, items, seed=0)
    assert (len(held.new), len(held.known), held.n_known) == (3, 57, 57)
    table = pd.concat([held.known, held.new])
    assert table["item_id"].tolist() == list(range(1, N_ITEMS + 1))
    keys = dict(zip(table["item_id"], table["item_key"], strict=True))
    assert [keys[item] for item in held.everything.items] == [f"i{item}" for item in histories.items]


def test_other_seeds_draw_other_items_and_the_same_seed_the_same(histories, items):
    new = [set(HeldOut.draw(histories, items, seed).new["item_key"]) for seed in (0, 0, 1)]
    assert new[0] == new[1] != new[2]


def test_what_is_learned_from_is_each_history_without_new_items_where_four_are_left(histories, items):
    held = HeldOut.draw(histories, items, seed=0)
    whole = np.split(held.everything.items, held.everything.offsets[1:-1])
    left = [user[user <= held.n_known].tolist() for user in whole]
    learned = [user.tolist() for user in np.split(held.learned.items, held.learned.offsets[1:-1])]
    assert learned == [user for user in left if len(user) >= 4]
    assert len(learned) < len(left)


def test_of_one_time_are_those_that_were_when_the_new_item_between_them_is_gone(items):
    new = HeldOut.draw(Histories(np.array([1, 2], np.int32), np.array([0, 2]), N_ITEMS), items, seed=0).new
    taken = int(new["item_key"].iloc[0][1:])
    a, b, c, d, e = [item for item in range(1, 30) if f"i{item}" not in set(new["item_key"])][:5]
    # times 1, 1, 1 | 2, 2, 3 | 4: the new item is in the middle of the first time, and is the first of the second
    histories = Histories(
        np.array([a, taken, b, taken, c, d, e], np.int32), np.array([0, 7]), N_ITEMS,
        np.array([False, True, True, False, True, False, False]),
    )  # fmt: skip
    learned = HeldOut.draw(histories, items, seed=0).learned
    assert learned.tied is not None
    assert learned.tied.tolist() == [False, True, False, False, False]


def test_data_that_are_split_in_time_are_refused(histories, items):
    cuts = TimeCuts(histories.offsets[:-1] + 1, histories.offsets[:-1] + 2, all_targets=False)
    in_time = Histories(histories.items, histories.offsets, N_ITEMS, None, cuts)
    with pytest.raises(UserError, match="leave_one_out"):
        HeldOut.draw(in_time, items, seed=0)
