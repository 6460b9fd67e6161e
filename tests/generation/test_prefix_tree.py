"""The prefix tree holds all semantic IDs and no other."""

import itertools

import pytest
import torch

from genrec.codes.code_table import build_code_table
from genrec.generation.prefix_tree import FullTree, build_prefix_tree


def random_table(n_items, code_num, num_levels, seed=0):
    codes = torch.randint(0, code_num, (n_items, num_levels), generator=torch.Generator().manual_seed(seed))
    return build_code_table(codes, code_num)


@pytest.fixture
def table():
    """60 items under 4 codes a level, so that many collide."""
    return random_table(60, 8, 2)


def walk(tree, depth=0, node=0, prefix=()):
    """All leaves below a node as (codes, item_id), by `children` alone."""
    if depth == tree.depth:
        return [(prefix, int(tree.items[node]))]
    children, codes, exists = tree.children(depth, torch.tensor([node]))
    steps = zip(children[0].tolist(), codes[0].tolist(), exists[0].tolist(), strict=True)
    return [
        leaf for child, code, is_there in steps if is_there for leaf in walk(tree, depth + 1, child, (*prefix, code))
    ]


def test_walking_the_tree_meets_every_item_once(table):
    expected = {tuple(codes): item for item, codes in enumerate(table.tolist()) if item > 0}
    leaves = walk(build_prefix_tree(table))
    assert len(leaves) == 60
    assert dict(leaves) == expected


def test_every_semantic_id_is_found(table):
    assert torch.equal(build_prefix_tree(table).find(table[1:]), torch.arange(1, 61))


def test_all_combinations_of_codes_are_found_exactly_when_they_are_items(table):
    everything = torch.tensor(list(itertools.product(range(8), repeat=3)))
    items = {tuple(codes): item for item, codes in enumerate(table.tolist()) if item > 0}
    expected = [items.get(tuple(codes), 0) for codes in everything.tolist()]
    assert build_prefix_tree(table).find(everything).tolist() == expected


def test_a_search_keeps_the_shape_of_its_question(table):
    found = build_prefix_tree(table).find(table[1:].view(3, 4, 5, 3))
    assert torch.equal(found, torch.arange(1, 61).view(3, 4, 5))


def test_the_children_of_all_nodes_are_all_nodes_of_the_next_depth(table):
    tree = build_prefix_tree(table)
    for depth in range(tree.depth):
        n_parents = len(tree.first_child[depth]) - 1
        children, _, exists = tree.children(depth, torch.arange(n_parents))
        assert children[exists].tolist() == list(range(len(tree.codes[depth])))
        assert exists.any(1).all()


def test_siblings_have_different_codes_in_rising_order(table):
    tree = build_prefix_tree(table)
    for depth in range(tree.depth):
        _, codes, exists = tree.children(depth, torch.arange(len(tree.first_child[depth]) - 1))
        rises = codes.diff(dim=1) > 0
        assert (rises | ~exists[:, 1:]).all()


def test_the_widest_range_is_as_wide_as_said():
    tree = build_prefix_tree(torch.tensor([[-1, -1], [0, 0], [0, 1], [0, 2], [3, 1]]))
    assert tree.max_children == (2, 3)


def test_a_catalogue_of_one_item_is_a_chain():
    tree = build_prefix_tree(torch.tensor([[-1, -1, -1], [4, 0, 2]]))
    assert walk(tree) == [((4, 0, 2), 1)]


def test_moving_a_tree_keeps_its_items(table):
    tree = build_prefix_tree(table).to(torch.device("cpu"))
    assert torch.equal(tree.find(table[1:]), torch.arange(1, 61))


def test_fifty_thousand_items_make_the_round_trip():
    table = random_table(50_000, 256, 3)
    assert torch.equal(build_prefix_tree(table).find(table[1:]), torch.arange(1, 50_001))


def test_the_full_tree_numbers_its_leaves_as_digits():
    tree = FullTree(code_num=3, depth=2)
    first, _, _ = tree.children(0, torch.zeros(1, 1, dtype=torch.long))
    second, codes, exists = tree.children(1, first[:, 0])
    assert second.flatten().tolist() == [3 * i + j for i in range(3) for j in range(3)]
    assert codes.flatten().tolist() == [0, 1, 2] * 3
    assert exists.all()
