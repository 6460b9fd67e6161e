"""Histories in, ranked items out: against the plain forward pass of every item, over both trees and all networks."""

import itertools
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from genrec.codes.code_table import build_code_table
from genrec.errors import UserError
from genrec.generation.item_generator import build_item_generator

CODES, LENGTH, ITEMS = 4, 3, 14


NETWORKS = {
    "causal": {"causal": True},
    "bidirectional": {},
    "causal with repeats": {"causal": True, "learns_repeats": True},
    "items": {"itemwise": True},
    "items with vectors and repeats": {"itemwise": True, "item_vectors": True, "learns_repeats": True},
}


def built(options):
    return build_item_generator(ITEMS, CODES, LENGTH, 8, 2, 4, 16, 2, 0.2, max_history=3, **options)


@pytest.fixture(params=NETWORKS)
def generator(request):
    """14 items in a space of 64 semantic IDs, in float64."""
    torch.manual_seed(0)
    generator = built(NETWORKS[request.param]).double().eval()
    for name, parameter in generator.named_parameters():
        torch.nn.init.normal_(parameter, std=0.1 if name.startswith("repeats") else 0.5)
    codes = torch.randint(0, CODES, (ITEMS, LENGTH - 1), generator=torch.Generator().manual_seed(3))
    generator.set_code_table(build_code_table(codes, CODES))
    return generator


def histories(batch):
    """(batch, 4) item_ids of lengths 1, 2, 3, 4, 1... padded on the right."""
    items = torch.randint(1, ITEMS + 1, (batch, 4), generator=torch.Generator().manual_seed(batch))
    return items * (torch.arange(4) <= torch.arange(batch)[:, None] % 4)


@torch.no_grad()
def teacher_forced(generator, history):
    """log P(item | history) of all items, (batch, ITEMS), one plain forward pass an item."""
    columns = []
    for item in range(1, ITEMS + 1):
        target = torch.full((len(history), 1), item)
        log_probs = generator(history, target).log_softmax(-1)[:, 0]
        codes = generator.code_table[item].long()
        columns.append(log_probs[:, torch.arange(LENGTH), codes].sum(1))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("batch", [1, 3, CODES, 5, 7])
@pytest.mark.parametrize("n_beams", [ITEMS, ITEMS + 6])
def test_wide_beams_equal_scoring_every_item(generator, batch, n_beams):
    history = histories(batch)
    scores, expected = teacher_forced(generator, history).sort(1, descending=True)
    found = generator.generate(history, n_beams)
    assert torch.equal(found.items[:, :ITEMS], expected + 1)
    torch.testing.assert_close(found.log_probs[:, :ITEMS], scores)


def test_a_catalogue_smaller_than_the_beam_is_filled_up_with_no_item(generator):
    found = generator.generate(histories(3), ITEMS + 6)
    # the last level has at most as many entries as beams times children
    assert (found.items[:, ITEMS:] == 0).all()
    assert (found.log_probs[:, ITEMS:] == -torch.inf).all()


def logits_of_codes(generator, history, target_tokens):
    """Logits after histories of item_ids under teacher forcing of any codes, items or not."""
    logits = generator.network(generator.history_tokens(history), target_tokens)
    if generator.repeats is None:
        return logits
    return generator.repeats(logits, generator.tokens[history], target_tokens)


def slow_search(generator, history, n_beams):
    """A beam search of one user in plain Python over prefixes of the catalogue, each scored by a forward pass."""
    rows = {tuple(codes): item for item, codes in enumerate(generator.code_table.tolist()) if item > 0}
    offsets = torch.arange(LENGTH) * CODES + 1

    @cache
    def score(prefix):
        codes = torch.tensor([*prefix, *[0] * (LENGTH - len(prefix))])
        logits = logits_of_codes(generator, history, (codes + offsets)[None, None])[0, 0]
        return sum(logits[level].log_softmax(-1)[code].item() for level, code in enumerate(prefix))

    beams = [()]
    for depth in range(1, LENGTH + 1):
        longer = {codes[:depth] for codes in rows if codes[: depth - 1] in beams}
        beams = sorted(longer, key=score, reverse=True)[:n_beams]
    return [rows[codes] for codes in beams]


@pytest.mark.parametrize("n_beams", [1, 3])
@torch.no_grad()
def test_narrow_beams_equal_a_slow_search(generator, n_beams):
    history = histories(3)
    found = generator.generate(history, n_beams).items
    assert found.tolist() == [slow_search(generator, history[i : i + 1], n_beams) for i in range(3)]


def test_constrained_results_are_different_items_of_the_catalogue(generator):
    for row in generator.generate(histories(7), 6).items.tolist():
        assert len(set(row)) == 6
        assert set(row) <= set(range(1, ITEMS + 1))


@torch.no_grad()
def test_an_unconstrained_search_sorts_all_sequences_and_names_those_that_are_items(generator):
    history = histories(3)
    everything = torch.tensor(list(itertools.product(range(CODES), repeat=LENGTH)))
    targets = everything + torch.arange(LENGTH) * CODES + 1
    found = generator.generate(history, CODES**LENGTH, constrained=False)
    rows = {tuple(codes): item for item, codes in enumerate(generator.code_table.tolist()) if item > 0}
    for user in range(3):
        same = history[user : user + 1].expand(len(targets), -1)
        log_probs = logits_of_codes(generator, same, targets[:, None]).log_softmax(-1)[:, 0]
        scores, order = log_probs.gather(2, everything[..., None]).sum((1, 2)).sort(descending=True)
        torch.testing.assert_close(found.log_probs[user], scores)
        assert found.items[user].tolist() == [rows.get(tuple(codes), 0) for codes in everything[order].tolist()]


def test_an_unconstrained_search_as_wide_as_the_code_space_finds_every_item_once(generator):
    items = generator.generate(histories(2), CODES**LENGTH, constrained=False).items
    assert [sorted(row[row > 0].tolist()) for row in items] == [list(range(1, ITEMS + 1))] * 2


def test_generation_does_not_depend_on_how_far_the_batch_is_padded(generator):
    history = histories(5)
    short, long = generator.generate(history, 6), generator.generate(F.pad(history, (0, 9)), 6)
    assert torch.equal(short.items, long.items)
    torch.testing.assert_close(short.log_probs, long.log_probs)


def test_the_code_loss_is_the_mean_over_known_targets_and_levels(generator):
    target = torch.tensor([[5], [0], [9]])
    logits = torch.randn(3, 1, LENGTH, CODES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    terms = [
        -logits[row, 0, level].log_softmax(-1)[generator.code_table[item, level]]
        for row, item in [(0, 5), (2, 9)]
        for level in range(LENGTH)
    ]
    torch.testing.assert_close(generator.code_loss(logits, target), sum(terms) / (2 * LENGTH))


def test_another_table_brings_another_tree(generator):
    history = histories(3)
    generator.generate(history, 4)
    table = generator.code_table.clone()
    table[1:] = table[1:].flip(0)
    before = generator.generate(history, ITEMS).items
    generator.set_code_table(table)
    # the same places in the catalogue, held by other items; the histories' codes moved too, so compare the tree
    assert torch.equal(generator.prefix_tree.find(table[1:]), torch.arange(1, ITEMS + 1))
    assert not torch.equal(generator.generate(history, ITEMS).items, before)


def test_a_table_that_is_changed_in_place_brings_another_tree(generator):
    # `load_state_dict` copies into the buffer: a tree kept by identity would go on with the old items.
    assert generator.prefix_tree.find(generator.code_table[3]).item() == 3
    other = {name: value.clone() for name, value in generator.state_dict().items()}
    other["code_table"][1:] = other["code_table"][1:].flip(0)
    generator.load_state_dict(other)
    assert generator.prefix_tree.find(generator.code_table[3]).item() == 3


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_the_table_travels_in_the_state_dict(options):
    torch.manual_seed(0)
    generator, other = built(options).double().eval(), built(options)
    generator.set_code_table(build_code_table(torch.arange(ITEMS)[:, None] // torch.tensor([CODES, 1]) % CODES, CODES))
    other.double().eval().load_state_dict(generator.state_dict())
    assert torch.equal(other.generate(histories(3), 5).items, generator.generate(histories(3), 5).items)


def test_vectors_of_items_are_refused_where_no_item_is_read():
    with pytest.raises(ValueError, match="item_vectors needs itemwise=True"):
        built({"causal": True, "item_vectors": True})


@pytest.mark.parametrize(
    "table",
    [torch.zeros(ITEMS, LENGTH), torch.zeros(ITEMS + 1, LENGTH + 1), torch.full((ITEMS + 1, LENGTH), CODES)],
    ids=["too few items", "too many levels", "a code too large"],
)
def test_a_table_that_does_not_fit_is_refused(generator, table):
    with pytest.raises(ValueError, match="code table must have shape"):
        generator.set_code_table(table.int())


def test_scores_of_the_whole_catalogue_equal_a_forward_pass_for_each_item(generator):
    history = histories(3)
    scores = generator.score_items(history)
    assert (scores[:, 0] == -torch.inf).all()
    torch.testing.assert_close(scores[:, 1:], teacher_forced(generator, history))


@pytest.mark.parametrize("leaves", [1, 7, ITEMS - 1])
def test_the_whole_catalogue_is_scored_alike_by_stretches_of_its_tree(generator, monkeypatch, leaves):
    history = histories(3)
    expected = generator.score_items(history)
    monkeypatch.setattr("genrec.generation.item_generator.LEAVES_AT_ONCE", leaves)
    torch.testing.assert_close(generator.score_items(history), expected)


def test_users_are_found_the_same_items_however_many_are_searched_at_once(generator, monkeypatch):
    history = histories(7)
    expected = generator.generate(history, 4)
    monkeypatch.setattr("genrec.generation.item_generator.BEAM_ROWS", 8)  # two users at once
    found = generator.generate(history, 4)
    assert torch.equal(found.items, expected.items)
    torch.testing.assert_close(found.log_probs, expected.log_probs)


@pytest.mark.parametrize("constrained", [True, False])
def test_a_diverged_network_is_refused_and_not_searched(generator, constrained):
    for parameter in generator.parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    with pytest.raises(UserError, match="log-probabilities of beams must be numbers, but .* are NaN; the model"):
        generator.generate(histories(3), 5, constrained)
    with pytest.raises(UserError, match="must be numbers"):
        generator.score_items(histories(3))
