"""The memory of transitions: what a pair weighs, what a history's items say together, and mixing with a model."""

import numpy as np
import pytest
import torch
from scipy import sparse

from genrec.errors import UserError
from genrec.retrieval.pair_counts import PairCounter, normalised
from genrec.retrieval.transitions import Rows, Transitions, joined, mixed
from genrec.sequences.histories import Histories

N_ITEMS = 6
ITEMS = np.array([1, 2, 3, 4, 2, 1, 5, 6, 1], np.int32)
OFFSETS = np.array([0, 4, 9])


def by_hand(history, window, backward, power, num_items, decay):
    counts = torch.zeros(N_ITEMS + 1, N_ITEMS + 1, dtype=torch.float64)
    for user in (ITEMS[:4].tolist(), ITEMS[4:].tolist()):
        for i, first in enumerate(user):
            for step, second in enumerate(user[i + 1 : i + 1 + window], 1):
                counts[first, second] += 1 / step
                counts[second, first] += backward / step
    sums = counts.sum(1, keepdim=True)
    rows = torch.where(sums > 0, counts / sums**power, 0)
    total = sum(decay**back * rows[item] for back, item in enumerate(history[::-1][:num_items]))
    return total / total.sum().clamp_min(1e-300)


@pytest.mark.parametrize("settings", [(3, 0.5, 1.0, 5, 0.7), (1, 0.0, 0.5, 2, 1.0), (4, 1.0, 0.0, 1, 0.3)])
@pytest.mark.parametrize("history", [[2], [3, 2, 2], [6, 5, 4, 3, 2, 1]])
def test_a_history_scores_by_the_rows_of_its_last_items(settings, history):
    window, backward, power, num_items, decay = settings
    memory = Transitions.fit(
        ITEMS, OFFSETS, N_ITEMS,
        window=window, backward=backward, power=power, num_items=num_items, decay=decay,
    )  # fmt: skip
    expected = by_hand(history, *settings).float()
    padded = torch.tensor([[*history, *[0] * (6 - len(history))], [*[0] * (6 - len(history)), *history]])
    for probabilities in memory(padded):
        torch.testing.assert_close(probabilities, expected, atol=1e-6, rtol=1e-5)


def pairs_of(offsets, n_items, window):
    histories = Histories(ITEMS, offsets, n_items)
    (counts,) = PairCounter(lambda: [histories], n_items, window).of_items(np.arange(n_items + 1))
    return counts


def rows_of(table):
    return Rows(table.indptr.astype(np.int64), table.indices, table.data)


def test_pairs_are_counted_within_a_user_and_never_over_two():
    counts = pairs_of(OFFSETS, N_ITEMS, window=8)
    assert counts.ahead.toarray()[4, 1] == 0  # 4 ends the first user's history, the second's goes on with 2 and 1
    assert counts.ahead.toarray()[2, 1] == 1 + 1 / 4
    assert (counts.behind.toarray() == counts.ahead.toarray().T).all()


def test_an_item_that_nobody_took_has_nothing_to_say():
    rows = rows_of(normalised(pairs_of(np.array([0, 9]), 9, 1).ahead, 1.0))
    memory = Transitions(rows, num_items=5, decay=0.7)
    assert (memory(torch.tensor([[8], [0]])) == 0).all()


def of_many_users(n_users=300, n_items=40):
    """Histories of popular and rare items."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 15, n_users))])
    items = 1 + (n_items * rng.random(offsets[-1]) ** 3).astype(np.int32)
    return Histories(items, offsets, n_items)


def test_the_bytes_are_those_of_a_table_that_is_counted_whole():
    """The rows' sums, and the order of what is summed, are the ones of a table times a diagonal."""
    histories, shape = of_many_users(), (41, 41)
    users = np.repeat(np.arange(histories.n_users), histories.lengths)
    counts = sparse.csr_array(shape, dtype=np.float32)
    for step in range(1, 6):
        same = users[:-step] == users[step:]
        pairs = histories.items[:-step][same], histories.items[step:][same]
        counts = counts + sparse.coo_array((np.full(same.sum(), 1 / step, np.float32), pairs), shape).tocsr()
    whole = Transitions(rows_of(normalised(counts + 0.25 * counts.T, 0.3)), 10, 0.5)
    memory = Transitions.fit(histories.items, histories.offsets, 40, window=5)
    assert all(torch.equal(a, b) for a, b in zip(memory.buffers(), whole.buffers(), strict=True))


@pytest.mark.parametrize("most", [1, 200, 1000])
def test_a_table_is_the_same_counted_some_rows_after_another(monkeypatch, most):
    histories = of_many_users()
    at_once = Transitions.fit(histories.items, histories.offsets, 40)
    counter, items = PairCounter(lambda: [histories], 40, 10), np.arange(41)
    monkeypatch.setattr("genrec.retrieval.pair_counts.PAIRS_AT_ONCE", most)
    assert len(list(counter.of_items(items))) > 5
    in_stretches = Transitions.fit(histories.items, histories.offsets, 40)
    assert all(torch.equal(a, b) for a, b in zip(in_stretches.buffers(), at_once.buffers(), strict=True))


def test_rows_of_some_items_are_those_of_the_whole_table():
    histories, asked = of_many_users(), np.array([0, 3, 4, 17, 40])
    counter = PairCounter(lambda: [histories], 40, 10)
    (whole,), (some,) = counter.of_items(np.arange(41)), counter.of_items(asked)
    rows = joined([some.weighed(0.5, 0.3)], asked, 40, 1000)
    table = sparse.csr_array((rows.weights, rows.columns, rows.starts), (41, 41)).toarray()
    expected = whole.weighed(0.5, 0.3).toarray()
    assert (table[asked] == expected[asked]).all()
    assert (np.delete(table, asked, axis=0) == 0).all()
    assert expected[asked].any()


def test_a_mixture_is_that_of_probabilities():
    scores = torch.tensor([[-torch.inf, 1.0, 2.0, 0.0]])
    memory = torch.tensor([[0.0, 0.1, 0.0, 0.9]])
    expected = 0.7 * scores.softmax(1) + 0.3 * memory
    torch.testing.assert_close(mixed(scores.softmax(1), memory, 0.3).exp(), expected)


def test_a_memory_that_knows_nothing_leaves_the_order_of_the_model_alone():
    scores = torch.tensor([[-torch.inf, 1.0, 3.0, 2.0]])
    assert mixed(scores.softmax(1), torch.zeros(1, 4), 0.5).argsort(1).tolist() == scores.argsort(1).tolist()


def test_the_memory_travels_in_the_state_of_a_model():
    memory = Transitions.fit(ITEMS, OFFSETS, N_ITEMS)
    assert set(memory.state_dict()) == {"starts", "columns", "weights"}


def test_it_reads_what_it_wrote_and_refuses_another_catalogue(tmp_path):
    memory = Transitions.fit(ITEMS, OFFSETS, N_ITEMS, num_items=3, decay=0.6)
    memory.save(tmp_path / "t.npz")
    read = Transitions.load(tmp_path / "t.npz", N_ITEMS)
    history = torch.tensor([[1, 2, 5], [4, 0, 0]])
    assert torch.equal(read(history), memory(history))
    with pytest.raises(UserError, match=r"t\.npz must be of 9 items, got 6; run `dvc repro -f count_transitions`"):
        Transitions.load(tmp_path / "t.npz", 9)
    np.savez(tmp_path / "other.npz", items=np.zeros(3))
    with pytest.raises(UserError, match=r"other\.npz is not what count_transitions writes, got items"):
        Transitions.load(tmp_path / "other.npz", N_ITEMS)
