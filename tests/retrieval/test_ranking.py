"""Full ranking and generated lists against plain numpy, under both protocols."""

import numpy as np
import pytest
import torch

from genrec.generation.generated_items import GeneratedItems
from genrec.retrieval.ranking import first_items, rank_by_scores, rank_found, search_users, share_of_invalid_beams
from genrec.sequences.histories import Histories

N_ITEMS, MAX_HISTORY, K = 15, 4, 6


@pytest.fixture
def histories():
    """25 users of 3 to 10 interactions, in no order of length; items may return."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 11, 25)
    items = rng.integers(1, N_ITEMS + 1, lengths.sum()).astype(np.int32)
    return Histories(items, np.concatenate([[0], np.cumsum(lengths)]), N_ITEMS)


def users(histories):
    return [histories.items[a:b].tolist() for a, b in zip(histories.offsets, histories.offsets[1:], strict=False)]


# few distinct values, so that ties abound
WEIGHTS = torch.randint(0, 4, (N_ITEMS + 1, N_ITEMS + 1), generator=torch.Generator().manual_seed(0)).float()


def score(history):
    """The sum of a row of weights for each item of the history; padding has none."""
    return (WEIGHTS[history] * (history > 0)[..., None]).sum(1)


def ranked_by_hand(history, seen=()):
    scores = WEIGHTS[history].sum(0).numpy()
    order = np.lexsort((np.arange(N_ITEMS + 1), -scores))
    items = [int(item) for item in order if item > 0 and item not in seen]
    return (items + [0] * K)[:K]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize(("split", "back"), [("validation", 2), ("test", 1)])
def test_ranking_by_scores_equals_sorting_the_whole_catalogue(histories, split, back, batch_size):
    ranked = rank_by_scores(score, histories, split, MAX_HISTORY, K, batch_size, progress_bar=False)
    known = [items[:-back] for items in users(histories)]
    assert ranked.lists["kept"].tolist() == [ranked_by_hand(items[-MAX_HISTORY:]) for items in known]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_the_excluded_protocol_lists_nothing_that_the_user_ever_had(histories, batch_size):
    ranked = rank_by_scores(score, histories, "test", MAX_HISTORY, K, batch_size, progress_bar=False)
    known = [items[:-1] for items in users(histories)]
    # the model reads the last items only, but all of them are excluded
    expected = [ranked_by_hand(items[-MAX_HISTORY:], seen=items) for items in known]
    assert ranked.lists["excluded"].tolist() == expected


def test_targets_and_lists_are_in_the_order_of_the_users(histories):
    ranked = rank_by_scores(score, histories, "test", MAX_HISTORY, K, 4, progress_bar=False)
    assert ranked.targets.tolist() == [items[-1] for items in users(histories)]
    assert histories.lengths.tolist() != sorted(histories.lengths.tolist())


def test_the_model_never_sees_the_target_or_what_follows():
    histories = Histories(np.array([1, 2, 3, 4], np.int32), np.array([0, 4]), n_items=4)
    shown = []

    def watch(history):
        shown.append(history.tolist())
        return torch.zeros(1, 5)

    for split in ("validation", "test"):
        rank_by_scores(watch, histories, split, 9, 2, 4, progress_bar=False)
    assert shown == [[[1, 2]], [[1, 2, 3]]]


def test_an_item_that_returns_is_not_excluded_where_it_is_kept():
    histories = Histories(np.array([1, 2, 3, 1], np.int32), np.array([0, 4]), n_items=3)
    ranked = rank_by_scores(lambda history: torch.tensor([[0, 3.0, 2, 1]]), histories, "test", 9, 3, 4, False)
    assert ranked.lists["kept"].tolist() == [[1, 2, 3]]
    assert ranked.lists["excluded"].tolist() == [[0, 0, 0]]


def test_a_models_scores_are_left_as_they_are():
    histories = Histories(np.array([1, 2, 3], np.int32), np.array([0, 3]), n_items=3)
    scores = torch.tensor([[7.0, 1, 2, 3]])
    rank_by_scores(lambda history: scores, histories, "test", 9, 2, 4, False)
    assert scores.tolist() == [[7, 1, 2, 3]]


def test_scores_that_share_their_memory_can_be_ranked():
    # Popularity expands one row over all users.
    histories = Histories(np.array([1, 2, 3, 3, 2, 1], np.int32), np.array([0, 3, 6]), n_items=3)
    ranked = rank_by_scores(
        lambda h: torch.tensor([0, 1.0, 5, 3]).expand(len(h), -1), histories, "test", 9, 2, 4, False
    )
    assert ranked.lists["kept"].tolist() == [[2, 3], [2, 3]]
    assert ranked.lists["excluded"].tolist() == [[3, 0], [1, 0]]


def generate(history):
    """Eight beams of each user: the sum of the history's items and the seven numbers after it, 0 where no item is."""
    items = (history.sum(1, keepdim=True) + torch.arange(8)) % (N_ITEMS + 4)
    return GeneratedItems(items.masked_fill(items > N_ITEMS, 0), torch.zeros(len(items), 8))


def generated_by_hand(history, seen=()):
    items = [(sum(history) + i) % (N_ITEMS + 4) for i in range(8)]
    kept = [item for item in items if 0 < item <= N_ITEMS and item not in seen]
    return (kept + [0] * K)[:K]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_generated_lists_are_the_first_items_that_the_protocol_allows(histories, batch_size):
    found = search_users(generate, histories, "test", MAX_HISTORY, batch_size, progress_bar=False)
    ranked = rank_found(found.items, histories, "test", K, batch_size)
    known = [items[:-1] for items in users(histories)]
    assert ranked.lists["kept"].tolist() == [generated_by_hand(items[-MAX_HISTORY:]) for items in known]
    excluded = [generated_by_hand(items[-MAX_HISTORY:], seen=items) for items in known]
    assert ranked.lists["excluded"].tolist() == excluded
    assert ranked.targets.tolist() == [items[-1] for items in users(histories)]


def test_fewer_beams_than_places_fill_up_the_list():
    items, allowed = torch.tensor([[4, 2]]), torch.tensor([[True, True]])
    assert first_items(items, allowed, k=4).tolist() == [[4, 2, 0, 0]]


def test_allowed_items_keep_their_order_and_close_up():
    items, allowed = torch.tensor([[4, 2, 9, 7]]), torch.tensor([[False, True, False, True]])
    assert first_items(items, allowed, k=2).tolist() == [[2, 7]]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_the_share_of_invalid_beams_is_over_all_beams_of_all_users(histories, batch_size):
    beams = [(sum(items[:-1][-MAX_HISTORY:]) + i) % (N_ITEMS + 4) for items in users(histories) for i in range(8)]
    expected = sum(beam == 0 or beam > N_ITEMS for beam in beams) / len(beams)
    found = share_of_invalid_beams(generate, histories, "test", MAX_HISTORY, batch_size, progress_bar=False)
    assert found == pytest.approx(expected)
    assert 0 < expected < 1
