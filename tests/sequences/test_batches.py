"""Batches: every target once an epoch, an order by (seed, epoch), like lengths together, nothing held out leaks."""

import numpy as np
import pytest
import torch

from genrec.errors import UserError
from genrec.sequences import batches as batches_module
from genrec.sequences.batches import (
    BatchSampler,
    Segments,
    SegmentSampler,
    grouped_batches,
    mixed_window_loader,
    row_loader,
    segment_loader,
    training_loader,
    window_loader,
)
from genrec.sequences.histories import Histories, TimeCuts


def drawn_histories(n_users=40, longest=30, seed=0):
    """Users of 3 and more interactions; each has an item_id of its own, so that an item names its place."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, n_users)
    n_items = int(lengths.sum())
    items = (rng.permutation(n_items) + 1).astype(np.int32)
    return Histories(items, np.concatenate([[0], np.cumsum(lengths)]), n_items)


@pytest.fixture
def histories():
    return drawn_histories()


def users(histories):
    return [histories.items[a:b].tolist() for a, b in zip(histories.offsets, histories.offsets[1:], strict=False)]


def windows_of(loader):
    """(history without padding, target) of each row of all batches."""
    return [
        (tuple(row[row > 0].tolist()), int(target))
        for batch in loader
        for row, target in zip(batch["history"], batch["target"], strict=True)
    ]


def pairs_of(loader):
    """(the items known at a position, the target there) of each known target of all batches of segments."""
    return [
        (tuple(row[: i + 1].tolist()), int(targets[i]))
        for batch in loader
        for row, targets in zip(batch["history"], batch["target"], strict=True)
        for i in range(int((targets > 0).sum()))
    ]


@pytest.mark.parametrize("max_history", [1, 4, 100])
def test_an_epoch_of_windows_has_every_training_target_once_behind_its_last_items(histories, max_history):
    expected = [
        (tuple(items[max(0, end - max_history) : end]), items[end])
        for items in users(histories)
        for end in range(1, len(items) - 2)
    ]
    found = windows_of(window_loader(histories, "train", max_history, batch_size=16, seed=0))
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("epoch", [0, 1, 7])
@pytest.mark.parametrize("max_history", [1, 4, 100])
def test_an_epoch_of_segments_has_every_training_target_once(histories, max_history, epoch):
    loader = segment_loader(histories, max_history, batch_size=4, seed=0)
    loader.sampler.set_epoch(epoch)
    targets = sorted(target for _, target in pairs_of(loader))
    assert targets == sorted(item for items in users(histories) for item in items[1:-2])


@pytest.mark.parametrize("max_history", [1, 4, 100])
def test_the_items_before_a_segments_target_are_those_of_the_user(histories, max_history):
    place = {item: (items, i) for items in users(histories) for i, item in enumerate(items)}
    for known, target in pairs_of(segment_loader(histories, max_history, batch_size=4, seed=0)):
        items, i = place[target]
        assert len(known) <= max_history
        assert known == tuple(items[i - len(known) : i])


def test_a_history_that_fits_is_one_segment(histories):
    loader = segment_loader(histories, 100, batch_size=4, seed=0)
    rows = [tuple(row[row > 0].tolist()) for batch in loader for row in batch["history"]]
    assert sorted(rows) == sorted(tuple(items[:-3]) for items in users(histories) if len(items) > 3)


def test_cuts_of_long_histories_change_with_the_epoch():
    sampler = SegmentSampler(drawn_histories(5, 60), max_history=8, batch_size=1000, seed=0)
    cuts = []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        cuts.append(sorted(int(start) for segments in sampler for start in segments.starts))
    assert len({tuple(starts) for starts in cuts}) == 6


@pytest.mark.parametrize("epoch", [0, 3])
def test_segments_of_the_whole_are_those_of_the_train_part(histories, epoch):
    part = histories.train_part()
    copied = SegmentSampler(part, 4, batch_size=5, seed=0)
    viewed = SegmentSampler(histories, 4, batch_size=5, seed=0, lengths=histories.train_lengths)
    for sampler in (copied, viewed):
        sampler.set_epoch(epoch)
    for ours, theirs in zip(viewed, copied, strict=True):
        assert histories.padded(ours).tolist() == part.padded(theirs).tolist()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_held_out_splits_have_every_user_once(histories, split):
    back = {"validation": 2, "test": 1}[split]
    found = windows_of(window_loader(histories, split, 5, batch_size=16, seed=0))
    assert sorted(found) == sorted((tuple(items[:-back][-5:]), items[-back]) for items in users(histories))


@pytest.mark.parametrize("encoder", ["bidirectional", "causal"])
def test_no_training_batch_holds_a_held_out_item(histories, encoder):
    held_out = {item for items in users(histories) for item in items[-2:]}
    loader = training_loader(histories, encoder, 6, batch_size=16, seed=0, windows_per_epoch=0)
    for epoch in range(5):
        loader.sampler.set_epoch(epoch)
        seen = {int(item) for batch in loader for name in ("history", "target") for item in batch[name].flatten()}
        assert not seen & held_out


def test_validation_does_not_see_what_is_tested(histories):
    tested = {items[-1] for items in users(histories)}
    for batch in window_loader(histories, "validation", 100, batch_size=16, seed=0):
        assert not tested & {*batch["history"].flatten().tolist(), *batch["target"].tolist()}


def order(sampler, epoch):
    sampler.set_epoch(epoch)
    return [batch.tolist() for batch in sampler]


def test_the_order_of_rows_is_a_function_of_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(1, 20, 200)
    first, second = BatchSampler(200, 16, 5, lengths), BatchSampler(200, 16, 5, lengths)
    order(first, 1)  # what was drawn before does not matter
    np.random.default_rng(1).random()
    torch.rand(3)
    assert order(first, 3) == order(second, 3)


@pytest.mark.parametrize(("seed", "epoch"), [(5, 4), (6, 3)])
def test_another_seed_or_epoch_has_another_order(seed, epoch):
    lengths = np.random.default_rng(0).integers(1, 20, 200)
    assert order(BatchSampler(200, 16, seed, lengths), epoch) != order(BatchSampler(200, 16, 5, lengths), 3)


def test_the_order_of_segments_is_a_function_of_seed_and_epoch():
    def starts(sampler, epoch):
        sampler.set_epoch(epoch)
        return [segments.starts.tolist() for segments in sampler]

    samplers = [SegmentSampler(drawn_histories(), 4, 8, seed=5) for _ in range(2)]
    starts(samplers[0], 1)
    assert starts(samplers[0], 3) == starts(samplers[1], 3)
    assert starts(samplers[0], 3) != starts(samplers[0], 4)


def test_rows_of_like_length_are_in_one_batch():
    lengths = np.random.default_rng(0).integers(1, 50, 640)
    spread = [int(np.ptp(lengths[rows])) for rows in BatchSampler(640, 10, 0, lengths)]
    # all 64 batches are one stretch: sorted by length they spread over about 50 / 64 of an item
    assert max(spread) <= 2


def test_batches_of_a_length_do_not_come_in_order_of_length():
    lengths = np.arange(640)
    firsts = [int(rows.min()) for rows in BatchSampler(640, 10, 0, lengths)]
    assert firsts != sorted(firsts)


def test_stretches_are_sorted_each_for_itself(monkeypatch):
    monkeypatch.setattr(batches_module, "GROUPED_BATCHES", 2)
    rows = np.arange(16)
    found = grouped_batches(rows, lengths=15 - rows, n_batches=4, random=np.random.default_rng(0))
    # two stretches of two batches of four, each stretch turned round by its lengths
    assert sorted(batch.tolist() for batch in found) == [[3, 2, 1, 0], [7, 6, 5, 4], [11, 10, 9, 8], [15, 14, 13, 12]]


def test_batches_are_nearly_equal_in_size_and_none_exceeds_the_wanted_one():
    sizes = [len(rows) for rows in BatchSampler(101, 16, 0)]
    assert sum(sizes) == 101
    assert max(sizes) <= 16
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("n_rows", "batch_size"), [(1, 1), (1, 16), (16, 16), (17, 16), (33, 16)])
def test_a_sampler_yields_as_many_batches_as_it_says(n_rows, batch_size):
    sampler = BatchSampler(n_rows, batch_size, 0)
    assert len(list(sampler)) == len(sampler) == -(-n_rows // batch_size)


def test_a_drawn_epoch_has_so_many_different_rows():
    rows = np.concatenate(list(BatchSampler(100, 8, 0, n_drawn=30)))
    assert len(rows) == len(set(rows.tolist())) == 30


def test_drawn_epochs_differ_until_all_rows_were_met():
    sampler, met = BatchSampler(100, 8, 0, n_drawn=30), set()
    for epoch in range(30):
        met |= {row for batch in order(sampler, epoch) for row in batch}
    assert met == set(range(100))


def test_more_rows_than_there_are_draws_all():
    assert sorted(np.concatenate(list(BatchSampler(10, 4, 0, n_drawn=50))).tolist()) == list(range(10))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_no_batch_of_segments_is_empty_in_any_epoch(batch_size):
    # The number of batches is fixed by the first epoch's cuts; an epoch of fewer segments must still fill them all,
    # for the loss of an empty batch is NaN.
    sampler = SegmentSampler(drawn_histories(6, 20), max_history=4, batch_size=batch_size, seed=0)
    for epoch in range(40):
        sampler.set_epoch(epoch)
        assert all(len(segments) > 0 for segments in sampler)


def test_the_number_of_segment_batches_stays():
    sampler = SegmentSampler(drawn_histories(6, 60), max_history=4, batch_size=5, seed=0)
    for epoch in range(10):
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler)


def test_batches_are_padded_on_the_right_and_no_wider_than_needed(histories):
    for batch in window_loader(histories, "train", 9, batch_size=16, seed=0):
        lengths = (batch["history"] > 0).sum(1)
        inside = torch.arange(batch["history"].shape[1]) < lengths[:, None]
        assert torch.equal(batch["history"] > 0, inside)
        assert batch["history"].shape[1] == lengths.max()


def test_a_segments_history_and_targets_stand_side_by_side(histories):
    part = histories.train_part()
    for segments in SegmentSampler(part, 5, 4, seed=0):
        batch = Segments()[segments]
        assert torch.equal(batch["history"] > 0, batch["target"] > 0)
        assert torch.equal(batch["history"][:, 1:], batch["target"][:, :-1] * (batch["history"][:, 1:] > 0))


@pytest.fixture
def tied_histories(histories):
    """All interactions of a user at one time."""
    tied = np.ones(len(histories.items), bool)
    tied[histories.offsets[:-1]] = False
    return Histories(histories.items, histories.offsets, histories.n_items, tied)


def rows_of(loader, epoch):
    """The histories and targets of an epoch, without padding, in order."""
    loader.sampler.set_epoch(epoch)
    return sorted(
        (*row[row > 0].tolist(), *targets[targets > 0].tolist())
        for batch in loader
        for row, targets in zip(batch["history"], batch["target"].view(len(batch["history"]), -1), strict=True)
    )


LOADERS = {
    "segments": segment_loader,
    "windows": lambda histories, *sizes, **options: window_loader(histories, "train", *sizes, **options),
    "mixed windows": mixed_window_loader,
}


@pytest.mark.parametrize("kind", LOADERS)
def test_ties_have_a_new_order_each_epoch_that_follows_from_the_seed(tied_histories, kind):
    def epoch_of(number, shuffles_ties=True):
        return rows_of(LOADERS[kind](tied_histories, 100, 4, seed=0, shuffles_ties=shuffles_ties), number)

    assert epoch_of(1) == epoch_of(1)
    assert epoch_of(1) != epoch_of(2)
    assert epoch_of(1, shuffles_ties=False) == epoch_of(2, shuffles_ties=False)


@pytest.mark.parametrize("kind", LOADERS)
def test_in_a_new_order_of_ties_a_user_still_learns_from_the_same_items(tied_histories, kind):
    # all but the last two, which stand at the time of the others
    learned = {item for items in users(tied_histories) if len(items) > 3 for item in items[:-2]}
    found = rows_of(LOADERS[kind](tied_histories, 100, 4, seed=0, shuffles_ties=True), 3)
    assert {item for row in found for item in row} == learned


def cut_in_the_middle(histories, tied=None):
    """A split in time: the first half of each history trains, the next interaction validates."""
    starts, stops = histories.offsets[:-1], histories.offsets[:-1] + histories.lengths // 2
    cuts = TimeCuts(stops, stops + 1, all_targets=True)
    return Histories(histories.items, histories.offsets, histories.n_items, tied, cuts), stops - starts


@pytest.mark.parametrize("kind", LOADERS)
def test_after_a_split_in_time_ties_are_shuffled_and_nothing_later_than_the_cut_is_learned(tied_histories, kind):
    histories, n_learned = cut_in_the_middle(tied_histories, tied_histories.tied)
    loader = LOADERS[kind](histories, 100, 4, seed=0, shuffles_ties=True)
    learned = {item for items, n in zip(users(histories), n_learned, strict=True) if n > 1 for item in items[:n]}
    for epoch in range(3):
        assert {item for row in rows_of(loader, epoch) for item in row} == learned
    # of a user whose interactions all have one time any may be the last
    last = {items[n - 1] for items, n in zip(users(histories), n_learned, strict=True) if n > 1}
    windows = [row for row in rows_of(loader, 1) if len(row) > 2]
    assert any(item in last for row in windows for item in row[:-2])


@pytest.mark.parametrize("kind", LOADERS)
def test_a_split_in_time_that_leaves_nothing_to_learn_from_is_refused_with_its_own_remedy(histories, kind):
    starts = histories.offsets[:-1]
    cuts = TimeCuts(starts + 1, starts + 2, all_targets=False)
    nothing = Histories(histories.items, histories.offsets, histories.n_items, cuts=cuts)
    with pytest.raises(UserError, match=r"no targets for train: none of the 40 users .* prepare_data.time.train_until"):
        LOADERS[kind](nothing, 100, 4, seed=0)


def test_a_split_in_time_without_targets_between_the_moments_is_refused(histories):
    stops = histories.offsets[1:] - 1
    cuts = TimeCuts(stops, stops, all_targets=False)
    nothing = Histories(histories.items, histories.offsets, histories.n_items, cuts=cuts)
    with pytest.raises(UserError, match=r"no targets for validation: .* or .validate_until"):
        window_loader(nothing, "validation", 100, 4, seed=0)


@pytest.mark.parametrize("kind", LOADERS)
def test_where_no_times_are_equal_shuffling_ties_changes_nothing(histories, kind):
    plain, shuffled = (LOADERS[kind](histories, 100, 4, seed=0, shuffles_ties=each) for each in (False, True))
    assert rows_of(plain, 2) == rows_of(shuffled, 2)


def test_batches_are_int64(histories):
    batch = next(iter(window_loader(histories, "train", 9, batch_size=16, seed=0)))
    assert {value.dtype for value in batch.values()} == {torch.int64}


def test_users_too_short_to_train_on_are_left_out():
    short = Histories(np.array([1, 2, 3, 4, 5, 6, 7], np.int32), np.array([0, 3, 7]), n_items=7)
    assert windows_of(window_loader(short, "train", 9, batch_size=4, seed=0)) == [((4,), 5)]
    assert pairs_of(segment_loader(short, 9, batch_size=4, seed=0)) == [((4,), 5)]


def histories_that_move_on(n_users=300, length=23):
    """Everybody goes through ten items, about two interactions each: an item tells its place in a history."""
    rng = np.random.default_rng(0)
    items = np.clip(np.arange(length) // 2 + rng.integers(-1, 2, (n_users, length)), 0, 9) + 1
    return Histories(items.ravel().astype(np.int32), np.arange(n_users + 1) * length, n_items=10)


def distance_from_the_whole(loader, histories):
    """How far a batch's targets are from all training targets, the total variation, mean over batches."""
    whole = np.bincount(histories.targets(histories.examples("train")), minlength=11)
    of_batches = [np.bincount(batch["target"].numpy(), minlength=11) for batch in loader]
    return np.mean([np.abs(each / each.sum() - whole / whole.sum()).sum() / 2 for each in of_batches])


def test_mixed_batches_hold_items_as_often_as_the_whole_does():
    # The two towers' negatives are corrected by the popularity of all rows. Batches of like length held others: on
    # MovieLens-100K the total variation was .74 among windows of one item.
    histories = histories_that_move_on()
    options = {"max_history": 30, "batch_size": 512, "seed": 0}
    assert distance_from_the_whole(window_loader(histories, "train", **options), histories) > 0.5
    # a draw of 512 from ten items: about sqrt(10 / (2 pi 512)) = .056
    assert distance_from_the_whole(mixed_window_loader(histories, **options), histories) < 0.08


@pytest.mark.parametrize("max_history", [1, 5, 100])
def test_mixed_batches_have_every_training_target_once_behind_its_last_items(histories, max_history):
    same = sorted(windows_of(window_loader(histories, "train", max_history, 16, seed=0)))
    assert sorted(windows_of(mixed_window_loader(histories, max_history, 16, seed=0))) == same
    assert len(windows_of(mixed_window_loader(histories, max_history, 16, seed=0, n_drawn=40))) == 40


def test_every_row_of_a_table_comes_once():
    features = torch.arange(50.0)[:, None].expand(-1, 3)
    rows = torch.cat([batch["features"] for batch in row_loader(features, 8, seed=0)])
    assert rows.shape == (50, 3)
    assert sorted(rows[:, 0].tolist()) == list(range(50))
    assert rows[:, 0].tolist() != list(range(50))
