"""A memory beside a model: chosen on validation, mixed as probabilities, and silent about what nobody repeats."""

import numpy as np
import pytest
import torch

from genrec.generation.generated_items import GeneratedItems
from genrec.networks.sequential.repeats import SPEED, RepeatBias
from genrec.retrieval.memory import SHARES, BeamsWithMemory, WithMemory, choose_share, choose_transitions
from genrec.retrieval.transitions import Transitions, mixed
from genrec.sequences.histories import EVALUATED_SPLITS, Histories

N_ITEMS = 30


def ring(n_users=200, length=8, seed=0):
    """Users who go round a ring of items, now and then by a step too many."""
    random = np.random.default_rng(seed)
    steps = 1 + (random.random((n_users, length)) < 0.2)
    items = (random.integers(0, N_ITEMS, (n_users, 1)) + steps.cumsum(1)) % N_ITEMS + 1
    return Histories(items.ravel().astype(np.int32), np.arange(n_users + 1) * length, N_ITEMS)


def knows_the_ring(history):
    """Logits of a model that puts the next item of the ring first, and the one after it second."""
    last = history.gather(1, (history != 0).sum(1, keepdim=True) - 1)
    scores = torch.zeros(len(history), N_ITEMS + 1).scatter(1, last % N_ITEMS + 1, 9.0)
    scores = scores.scatter(1, (last + 1) % N_ITEMS + 1, 7.0)
    scores[:, 0] = -torch.inf
    return scores


def knows_nothing(history):
    scores = torch.zeros(len(history), N_ITEMS + 1)
    scores[:, 0] = -torch.inf
    return scores


@pytest.mark.parametrize("seed", range(5))
def test_on_a_directed_ring_the_last_item_and_the_order_of_time_are_found_to_count(seed):
    _, settings = choose_transitions(ring(seed=seed), n_users=1000, seed=0)
    assert settings.backward < 1
    assert settings.decay < 1


@pytest.mark.parametrize("seed", range(5))
def test_the_share_is_large_beside_a_model_that_knows_nothing_and_none_beside_one_that_knows_all(seed):
    histories = ring(seed=seed)
    memory, _ = choose_transitions(histories, 1000, seed=0)

    def chosen(score):
        model = WithMemory(score, memory, 0.0, None)
        return choose_share(model, [0.0, 0.2, 0.8], histories, max_history=8, n_users=1000, seed=0)

    assert chosen(knows_nothing) > 0
    assert chosen(knows_the_ring) == 0


def test_what_is_chosen_does_not_depend_on_what_is_tested():
    histories = ring()
    others = histories.items.copy()
    others[histories.offsets[1:] - 1] = 1
    changed = Histories(others, histories.offsets, N_ITEMS)
    first, second = (choose_transitions(each, 150, seed=3) for each in (histories, changed))
    assert first[1] == second[1]
    assert all(torch.equal(a, b) for a, b in zip(first[0].buffers(), second[0].buffers(), strict=True))


def test_pairs_are_counted_alike_in_blocks_of_users(monkeypatch):
    histories = ring()
    monkeypatch.setattr("genrec.sequences.histories.BLOCK", 50)
    in_blocks, chosen = choose_transitions(histories, 150, seed=3)
    learned = histories.train_part()
    at_once = Transitions.fit(learned.items, learned.offsets, N_ITEMS, **vars(chosen))
    assert len(list(histories.train_blocks())) > 3
    assert torch.equal(in_blocks.columns, at_once.columns)
    torch.testing.assert_close(in_blocks.weights, at_once.weights)


def test_scores_are_the_mixture_of_model_and_memory():
    histories = ring()
    memory = Transitions.fit(histories.items, histories.offsets, N_ITEMS)
    history = torch.tensor([[3, 4, 5]])
    model = WithMemory(knows_the_ring, memory, 0.3, None)
    torch.testing.assert_close(model.scores(history), mixed(knows_the_ring(history).softmax(1), memory(history), 0.3))


def test_an_item_that_people_do_not_take_again_is_not_remembered_either():
    memory = Transitions.fit(np.array([1, 2, 1, 2, 3]), np.array([0, 5]), N_ITEMS)
    repeats = RepeatBias(2)
    repeats.weight.data.fill_(-20.0 / SPEED)
    history = torch.tensor([[1, 2]])
    remembered = WithMemory(knows_nothing, memory, 0.5, repeats).remembered(history)
    assert memory(history)[0, 1] > 0.3
    assert remembered[0, 1] < 1e-6
    assert remembered.sum().item() == pytest.approx(1)


def searched(histories, n_beams=4):
    """What a search finds that takes the ring's steps by one too many, so that the memory has something to add."""
    found = {}
    for split in EVALUATED_SPLITS:
        examples = histories.examples(split)
        last = torch.from_numpy(histories.items[examples.ends - 1]).long()
        items = (last[:, None] + torch.arange(2, n_beams + 2) - 1) % N_ITEMS + 1
        found[split] = GeneratedItems(items, torch.arange(n_beams, 0, -1).float().log_softmax(0).expand(len(items), -1))
    return found


def test_beams_with_memory_are_the_mixture_over_all_items():
    histories = ring()
    memory, _ = choose_transitions(histories, 1000, seed=0)
    found = searched(histories)
    lists = BeamsWithMemory(found, memory, histories).lists("test", 0.3)
    history = torch.from_numpy(histories.padded(histories.examples("test"))).long()
    logits = torch.full((len(history), N_ITEMS + 1), -torch.inf).scatter(
        1, found["test"].items, found["test"].log_probs
    )
    both = 0.7 * logits.softmax(1) + 0.3 * memory(history)
    for user in range(0, len(history), 17):
        possible = [item for item in range(1, N_ITEMS + 1) if both[user, item] > 0]
        best = sorted(possible, key=lambda item: (-both[user, item].item(), item))
        assert lists[user, : len(best)].tolist() == best
        assert lists[user, len(best) :].count_nonzero() == 0


def test_without_a_share_the_beams_stay_in_their_order():
    histories = ring()
    memory, _ = choose_transitions(histories, 1000, seed=0)
    found = searched(histories)
    lists = BeamsWithMemory(found, memory, histories).lists("validation", 0.0)
    assert torch.equal(lists[:, :4], found["validation"].items)
    assert lists[:, 4:].count_nonzero() == 0


def test_a_search_that_misses_the_next_item_gets_a_large_share_of_memory():
    histories = ring()
    memory, _ = choose_transitions(histories, 1000, seed=0)
    both = BeamsWithMemory(searched(histories), memory, histories)
    assert both.best_share(SHARES, 64) >= 0.5
