"""The search alone, on decoders that are tables of numbers: against sorting everything, against plain loops."""

import itertools

import pytest
import torch

from genrec.codes.code_table import build_code_table
from genrec.generation.beam_search import beam_search
from genrec.generation.prefix_tree import FullTree, build_prefix_tree
from genrec.generation.sampling import shaped

CODE_NUM, DEPTH = 4, 3


class TableDecoder:
    """Looks the log-probabilities of a prefix up: one table a depth, (batch, code_num ** depth, code_num)."""

    def __init__(self, batch, seed=0):
        generator = torch.Generator().manual_seed(seed)
        shapes = [(batch, CODE_NUM**depth, CODE_NUM) for depth in range(DEPTH)]
        self.tables = [torch.randn(shape, generator=generator).double().log_softmax(-1) for shape in shapes]

    def start(self):
        self.prefixes = torch.zeros(len(self.tables[0]), 1, dtype=torch.long)
        self.depth = 0
        return self.tables[0]

    def advance(self, parents, codes):
        self.depth += 1
        self.prefixes = self.prefixes.gather(1, parents) * CODE_NUM + codes
        return self.tables[self.depth].gather(1, self.prefixes[..., None].expand(-1, -1, CODE_NUM))

    def log_prob(self, row, codes):
        prefix, total = 0, 0.0
        for depth, code in enumerate(codes):
            total += self.tables[depth][row, prefix, code].item()
            prefix = prefix * CODE_NUM + code
        return total


def slow_beam_search(decoder, row, sequences, n_beams):
    """Lists of prefixes that some sequence begins with, the best n_beams of each depth."""
    beams = [()]
    for depth in range(1, DEPTH + 1):
        longer = {sequence[:depth] for sequence in sequences if sequence[: depth - 1] in beams}
        beams = sorted(longer, key=lambda prefix: -decoder.log_prob(row, prefix))[:n_beams]
    return beams


@pytest.fixture
def table():
    """20 items, 4 codes a level; the last column tells colliding items apart."""
    codes = torch.randint(0, CODE_NUM, (20, DEPTH - 1), generator=torch.Generator().manual_seed(5))
    return build_code_table(codes, CODE_NUM)


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 7])
def test_a_beam_as_wide_as_the_catalogue_sorts_all_items(table, batch):
    decoder, tree = TableDecoder(batch), build_prefix_tree(table)
    beams = beam_search(decoder, tree, n_beams=20)
    for row in range(batch):
        expected = sorted(range(1, 21), key=lambda item: -decoder.log_prob(row, table[item].tolist()))
        assert tree.items[beams.nodes[row]].tolist() == expected


@pytest.mark.parametrize("n_beams", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("batch", [1, 3, 4, 7])
def test_narrow_beams_equal_those_of_a_slow_search(table, batch, n_beams):
    decoder = TableDecoder(batch, seed=2)
    beams = beam_search(decoder, build_prefix_tree(table), n_beams)
    sequences = [tuple(codes) for codes in table[1:].tolist()]
    for row in range(batch):
        expected = slow_beam_search(decoder, row, sequences, n_beams)
        assert [tuple(codes) for codes in beams.codes[row].tolist()] == expected


def test_a_narrow_beam_may_miss_the_best_item():
    # Else the test above would not tell a beam search from an exhaustive one.
    everything = list(itertools.product(range(CODE_NUM), repeat=DEPTH))
    decoder = TableDecoder(30)
    found = beam_search(decoder, FullTree(CODE_NUM, DEPTH), n_beams=1).codes[:, 0]
    best = [max(everything, key=lambda codes, row=row: decoder.log_prob(row, codes)) for row in range(30)]
    assert [tuple(codes) for codes in found.tolist()] != best


def test_the_scores_are_the_log_probabilities_of_the_codes(table):
    decoder = TableDecoder(3)
    beams = beam_search(decoder, build_prefix_tree(table), n_beams=6)
    expected = [[decoder.log_prob(row, codes) for codes in beams.codes[row].tolist()] for row in range(3)]
    torch.testing.assert_close(beams.log_probs, torch.tensor(expected, dtype=torch.float64))


def test_beams_come_best_first(table):
    scores = beam_search(TableDecoder(3), build_prefix_tree(table), n_beams=12).log_probs
    assert (scores.diff(dim=1) <= 0).all()


def test_nodes_and_codes_name_the_same_leaf(table):
    tree = build_prefix_tree(table)
    beams = beam_search(TableDecoder(3), tree, n_beams=20)
    assert torch.equal(tree.find(beams.codes), tree.items[beams.nodes])


def test_a_catalogue_smaller_than_the_beam_is_listed_once_and_the_rest_marked():
    table = build_code_table(torch.tensor([[0, 1], [2, 2], [2, 3]]), CODE_NUM)
    tree = build_prefix_tree(table)
    beams = beam_search(TableDecoder(5), tree, n_beams=10)
    exists = beams.log_probs > -torch.inf
    assert exists.sum(1).tolist() == [3] * 5
    assert all(sorted(row.tolist()) == [1, 2, 3] for row in tree.items[beams.nodes[exists].view(5, 3)])


def test_an_unconstrained_search_as_wide_as_the_code_space_sorts_all_of_it():
    decoder = TableDecoder(3)
    beams = beam_search(decoder, FullTree(CODE_NUM, DEPTH), n_beams=CODE_NUM**DEPTH)
    everything = list(itertools.product(range(CODE_NUM), repeat=DEPTH))
    for row in range(3):
        expected = sorted(everything, key=lambda codes, row=row: -decoder.log_prob(row, codes))
        assert [tuple(codes) for codes in beams.codes[row].tolist()] == expected


def test_unconstrained_nodes_are_the_codes_read_as_digits():
    beams = beam_search(TableDecoder(2), FullTree(CODE_NUM, DEPTH), n_beams=5)
    digits = torch.tensor([CODE_NUM**2, CODE_NUM, 1])
    assert torch.equal(beams.nodes, (beams.codes * digits).sum(-1))


def test_the_search_repeats_itself(table):
    first, second = (beam_search(TableDecoder(3), build_prefix_tree(table), n_beams=5) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class Repeated(TableDecoder):
    """The same user many times: each row of the batch is one more draw."""

    def __init__(self, batch):
        super().__init__(1)
        self.tables = [table.expand(batch, -1, -1) for table in self.tables]


N_DRAWS = 40_000


def probabilities(tree, leaves):
    """P(leaf) of `Repeated`, renormalised at each step over the codes that lead on, by plain multiplication."""
    decoder, found = TableDecoder(1), []
    for leaf in leaves:
        probability = 1.0
        for depth in range(DEPTH):
            prefix = [int(code) for code in leaf[:depth]]
            following = {other[depth] for other in leaves if list(other[:depth]) == prefix}
            weights = {code: decoder.log_prob(0, [*prefix, code]) - decoder.log_prob(0, prefix) for code in following}
            probability *= torch.tensor(weights[leaf[depth]]).exp() / torch.tensor([*weights.values()]).exp().sum()
        found.append(float(probability))
    return torch.tensor(found)


def drawn(tree, n_beams, seed=0, batch=N_DRAWS):
    return beam_search(Repeated(batch), tree, n_beams, shaped, torch.Generator().manual_seed(seed))


@pytest.fixture
def few():
    """6 items under 4 prefixes, and their probabilities in the order of the tree's leaves."""
    table = torch.tensor([[-1] * 3, [0, 1, 0], [0, 1, 2], [0, 3, 1], [2, 0, 0], [2, 0, 3], [3, 3, 3]])
    tree = build_prefix_tree(table)
    return tree, probabilities(tree, [tuple(row) for row in table[tree.items].tolist()])


def test_a_single_draw_falls_on_each_leaf_as_often_as_it_is_likely(few):
    tree, expected = few
    share = drawn(tree, 1).nodes[:, 0].bincount(minlength=6) / N_DRAWS
    # four standard errors
    assert ((share - expected).abs() < 4 * (expected * (1 - expected) / N_DRAWS).sqrt()).all()


def test_two_draws_are_without_replacement(few):
    tree, p = few
    nodes = drawn(tree, 2).nodes
    share = torch.zeros(6, 6).index_put((nodes[:, 0], nodes[:, 1]), torch.ones(()), accumulate=True) / N_DRAWS
    expected = p[:, None] * p / (1 - p[:, None])
    expected.fill_diagonal_(0)
    assert share.diagonal().sum() == 0
    assert ((share - expected).abs() <= 4 * (expected * (1 - expected) / N_DRAWS).sqrt()).all()


def test_a_draw_tells_how_likely_its_leaf_is(few):
    tree, p = few
    beams = drawn(tree, 3, batch=20)
    torch.testing.assert_close(beams.log_probs.exp(), p[beams.nodes].double(), rtol=1e-4, atol=0)


def test_as_many_draws_as_leaves_draw_each_once(few):
    tree, _ = few
    beams = drawn(tree, 9, batch=50)
    assert (beams.nodes[:, :6].sort().values == torch.arange(6)).all()
    assert (beams.log_probs[:, 6:] == -torch.inf).all()
    assert len(beams.nodes[:, :6].unique(dim=0)) > 1


def test_draws_repeat_with_their_seed_alone(few):
    first, again, other = (drawn(few[0], 2, seed, batch=50).nodes for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_leaves_that_the_shape_cuts_are_never_drawn(few):
    tree, p = few
    beams = beam_search(
        Repeated(200), tree, 6, lambda step: shaped(step, top_k=1), torch.Generator().manual_seed(0)
    )  # fmt: skip
    assert len(beams.nodes[:, 0].unique()) == 1
    assert (beams.log_probs[:, 0] == 0).all()
    assert (beams.log_probs[:, 1:] == -torch.inf).all()


def test_a_shaped_search_sorts_by_the_shaped_distribution(few):
    tree, p = few
    beams = beam_search(Repeated(1), tree, 6, shaped)
    torch.testing.assert_close(beams.log_probs[0].exp(), p.sort(descending=True).values.double(), rtol=1e-4, atol=0)


def test_draws_need_no_constraint():
    beams = beam_search(Repeated(100), FullTree(CODE_NUM, DEPTH), 64, shaped, torch.Generator().manual_seed(0))
    assert (beams.nodes.sort().values == torch.arange(64)).all()
