"""All semantic IDs as a tree in flat tensors: a node's children are a range, so a step costs the same at any size."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class PrefixTree:
    """The prefixes of a code table's rows, depth by depth, each depth in lexicographic order.

    Attributes:
        codes: for each depth d, (n_nodes at d + 1,) int64: the code that leads to each node at depth d + 1.
        first_child: for each depth d, (n_nodes at d + 1,) int64: node i's children are the nodes
            first_child[i] .. first_child[i + 1] - 1 of depth d + 1; the last entry closes the last range.
        max_children: for each depth, the widest range.
        items: (n_items,) int64, the item_id of each leaf.
    """

    codes: tuple[Tensor, ...]
    first_child: tuple[Tensor, ...]
    max_children: tuple[int, ...]
    items: Tensor

    @property
    def depth(self) -> int:
        return len(self.codes)

    def children(self, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The children of nodes at a depth.

        Args:
            nodes: (...) int64.

        Returns:
            children (..., max_children[depth]) int64 nodes of the next depth, the codes that lead there, and
            whether each entry exists (bool).
        """
        first, last = self.first_child[depth][nodes], self.first_child[depth][nodes + 1]
        children = first[..., None] + torch.arange(self.max_children[depth], device=nodes.device)
        exists = children < last[..., None]
        children = torch.where(exists, children, 0)
        return children, self.codes[depth][children], exists

    def to(self, device: torch.device) -> "PrefixTree":
        return PrefixTree(
            tuple(codes.to(device) for codes in self.codes),
            tuple(first.to(device) for first in self.first_child),
            self.max_children,
            self.items.to(device),
        )

    def find(self, semantic_ids: Tensor) -> Tensor:
        """The item_id of each semantic ID, 0 where there is none.

        Args:
            semantic_ids: (..., depth) int.

        Returns:
            (...) int64.
        """
        nodes = torch.zeros(semantic_ids.shape[:-1], dtype=torch.long, device=semantic_ids.device)
        found = torch.ones_like(nodes, dtype=torch.bool)
        for depth in range(self.depth):
            children, codes, exists = self.children(depth, nodes)
            match = exists & (codes == semantic_ids[..., depth, None])
            found &= match.any(-1)
            nodes = (children * match).sum(-1)
        return torch.where(found, self.items[nodes], 0)


def build_prefix_tree(table: Tensor) -> PrefixTree:
    """The tree of a code table.

    Args:
        table: (n_items + 1, code_length) int, unique rows, row 0 is padding.

    Example:
        >>> tree = build_prefix_tree(torch.tensor([[-1, -1], [3, 0], [1, 0], [3, 2]]))
        >>> [codes.tolist() for codes in tree.codes], [first.tolist() for first in tree.first_child]
        ([[1, 3], [0, 0, 2]], [[0, 2], [0, 1, 3]])
        >>> tree.items.tolist()
        [2, 1, 3]
    """
    rows = table[1:].long()
    order = torch.arange(len(rows), device=rows.device)
    for column in reversed(rows.unbind(1)):
        order = order[column[order].argsort(stable=True)]
    rows = rows[order]
    starts_node = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    starts_node[:1] = True
    codes, first_child, max_children = [], [], []
    parent_starts = starts_node
    for column in rows.unbind(1):
        starts_node = parent_starts.clone()
        starts_node[1:] |= column[1:] != column[:-1]
        # how many children precede the first child of each parent, and in the end all of them
        before = (starts_node.cumsum(0) - 1)[parent_starts]
        first = torch.cat([before, starts_node.sum()[None]])
        codes.append(column[starts_node])
        first_child.append(first)
        max_children.append(int(first.diff().max()))
        parent_starts = starts_node
    return PrefixTree(tuple(codes), tuple(first_child), tuple(max_children), order + 1)


def tree_of_items(table: Tensor, item_ids: Tensor) -> PrefixTree:
    """The tree of some rows of a code table.

    Args:
        table: (n_items + 1, code_length) int.
        item_ids: (n,) int64, at least one, all different.
    """
    tree = build_prefix_tree(torch.cat([table[:1], table[item_ids]]))
    return replace(tree, items=item_ids[tree.items - 1])


@dataclass(frozen=True)
class FullTree:
    """The tree of every combination of codes, held by arithmetic alone: an unconstrained search walks in it."""

    code_num: int
    depth: int

    def children(self, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `PrefixTree.children`; a node is its prefix read as a number to the base code_num."""
        codes = torch.arange(self.code_num, device=nodes.device).expand(*nodes.shape, self.code_num)
        return nodes[..., None] * self.code_num + codes, codes, torch.ones_like(codes, dtype=torch.bool)
