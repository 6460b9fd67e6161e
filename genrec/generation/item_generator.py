"""A generating network with a code table: histories of item_ids in, ranked item_ids out."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrec.codes.code_table import to_tokens
from genrec.generation.beam_search import Decoder, Shape, beam_search
from genrec.generation.code_repeats import CodeRepeats, RepeatingDecoder
from genrec.generation.generated_items import GeneratedItems
from genrec.generation.generator import SemanticIdGenerator
from genrec.generation.itemwise import ItemwiseGenerator
from genrec.generation.prefix_tree import FullTree, PrefixTree, build_prefix_tree, tree_of_items
from genrec.layers.finite import check_ordered
from genrec.layers.item_ids import check_item_ids
from genrec.layers.tiles import of_like_length

GeneratingNetwork = SemanticIdGenerator | ItemwiseGenerator
BEAM_ROWS = 1024  # users times beams of one search on a CPU: the states of a layer stay in its cache, memory is bounded
LEAVES_AT_ONCE = 1 << 16  # of the tree, when all items are scored


class ItemGenerator(nn.Module):
    """The network and the code table that it speaks; the table travels in the state dict.

    Args:
        repeats: the bias of the history's items; None for none.
    """

    def __init__(self, network: GeneratingNetwork, n_items: int, repeats: CodeRepeats | None = None) -> None:
        super().__init__()
        self.network = network
        self.repeats = repeats
        self.code_table: Tensor
        self.register_buffer("code_table", torch.full((n_items + 1, network.code_length), -1, dtype=torch.int32))
        self._derived: _Derived | None = None

    def set_code_table(self, table: Tensor) -> None:
        """Take another table, (n_items + 1, code_length) int; the prefix tree follows."""
        if table.shape != self.code_table.shape or int(table.max()) >= self.network.code_num:
            raise ValueError(
                f"code table must have shape {tuple(self.code_table.shape)} and codes below {self.network.code_num}, "
                f"got {tuple(table.shape)} and {int(table.max())}"
            )
        self.code_table = table.to(self.code_table)

    @property
    def tokens(self) -> Tensor:
        """(n_items + 1, code_length) int64: the tokens of each item."""
        return self._derive().tokens

    @property
    def prefix_tree(self) -> PrefixTree:
        return self._derive().tree

    def forward(self, history: Tensor, target: Tensor) -> Tensor:
        """Logits of the targets' codes under teacher forcing.

        Args:
            history: (batch, length) int64 item_ids, padded with 0 on the right.
            target: (batch, n) int64 item_ids: the one item that follows (n = 1), or for a causal network the item
                that follows each item (n = length).

        Returns:
            (batch, n, code_length, code_num).
        """
        return self.read(history, target)[2]

    def read(self, history: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `forward` returns, after the encoder's states and the decoder's (`network.read`)."""
        target_tokens = self.tokens[target]
        memory, states = self.network.read(self.history_tokens(history), target_tokens)
        logits = self.network.logits(states)
        if self.repeats is not None:
            logits = self.repeats(logits, self.tokens[history], target_tokens)
        return memory, states, logits

    def history_tokens(self, history: Tensor) -> Tensor:
        """What the network reads of a history: its tokens, and the item_ids behind them where items have vectors."""
        tokens = self.tokens[history]
        return torch.cat([tokens, history[..., None]], dim=2) if self.network.reads_items else tokens

    def code_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, the mean over targets (0 is none) and levels."""
        known = target != 0
        codes = self.code_table[target[known]].long()
        return F.cross_entropy(logits[known].flatten(0, 1), codes.flatten())

    @torch.no_grad()
    def generate(
        self,
        history: Tensor,
        n_beams: int,
        constrained: bool = True,
        shape: Shape | None = None,
        random: torch.Generator | None = None,
        tree: PrefixTree | None = None,
    ) -> GeneratedItems:
        """The items that a beam search finds; without the constraint some beams are no item.

        On a CPU what a user is given is the same in any batch: histories of like length are read together, and all
        products have four rows or more, from where on their bytes depend on the row alone.

        Args:
            history: (batch, length) int64 item_ids, padded with 0 on the right.
            shape, random: as in `beam_search`, to search in another distribution and to sample from it.
            tree: of the items that may be found; None for all.

        Raises:
            UserError: the network's outputs are NaN.
            ValueError: the history holds what is no item_id.
        """
        check_item_ids(history, len(self.code_table) - 1)
        tree = tree or self.prefix_tree
        on_cpu = history.device.type == "cpu"
        n_users = max(BEAM_ROWS // n_beams, 1) if on_cpu else len(history)
        all_rows = torch.arange(len(history), device=history.device)
        groups = list(of_like_length(history)) if on_cpu else [(all_rows, _without_padding(history))]
        found = [
            self._generate(piece, n_beams, tree, constrained, shape, random)
            for _, part in groups
            for piece in part.split(n_users)
        ]
        items, log_probs = torch.cat([part.items for part in found]), torch.cat([part.log_probs for part in found])
        check_ordered(log_probs, "log-probabilities of beams")
        back = torch.cat([rows for rows, _ in groups]).argsort()
        return GeneratedItems(items[back], log_probs[back])

    def _generate(
        self,
        history: Tensor,
        n_beams: int,
        tree: PrefixTree,
        constrained: bool,
        shape: Shape | None,
        random: torch.Generator | None,
    ) -> GeneratedItems:
        decoder: Decoder = self.network.beam_decoder(self.history_tokens(history))
        if self.repeats is not None:
            decoder = RepeatingDecoder(decoder, self.repeats, self.tokens[history])
        if constrained:
            beams = beam_search(decoder, tree, n_beams, shape, random)
            items = tree.items[beams.nodes].masked_fill(beams.log_probs == -torch.inf, 0)
        else:
            beams = beam_search(decoder, FullTree(self.network.code_num, tree.depth), n_beams, shape, random)
            items = tree.find(beams.codes)
        return GeneratedItems(items, beams.log_probs)

    @torch.no_grad()
    def score_items(self, history: Tensor) -> Tensor:
        """log P(item | history) of the whole catalogue, which audits what a search finds.

        Each prefix is evaluated once: it is a search whose beam is as wide as the catalogue, of a large one by
        stretches of its tree, of which neighbours share the prefixes in which they meet.

        Args:
            history: (batch, length) int64 item_ids, padded with 0 on the right.

        Returns:
            (batch, n_items + 1), column = item_id; that of padding is -inf.
        """
        leaves = self.prefix_tree.items
        parts = leaves.split(LEAVES_AT_ONCE)
        trees = (tree_of_items(self.code_table, part) if len(part) < len(leaves) else None for part in parts)
        found = [self.generate(history, len(part), tree=tree) for part, tree in zip(parts, trees, strict=True)]
        items, log_probs = (torch.cat(each, dim=1) for each in zip(*found, strict=True))
        scores = log_probs.new_full((len(history), len(leaves) + 1), -torch.inf)
        return scores.scatter(1, items, log_probs)

    def _derive(self) -> "_Derived":
        """Tokens and tree of the table in use, computed again only when the table was replaced or written to."""
        if self._derived is None or not self._derived.is_of(self.code_table):
            self._derived = _Derived.of(self.code_table, self.network.code_num)
        return self._derived


@dataclass(frozen=True)
class _Derived:
    """What follows from a code table.

    Attributes:
        version: how often the table had been written to.
        copy: its values then.
    """

    table: Tensor
    version: int | None
    copy: Tensor
    tokens: Tensor
    tree: PrefixTree

    @classmethod
    def of(cls, table: Tensor, code_num: int) -> "_Derived":
        return cls(table, _version(table), table.clone(), to_tokens(table, code_num), build_prefix_tree(table))

    def is_of(self, table: Tensor) -> bool:
        """Whether the table is still the same; a step asks twice, and comparing values would wait for a GPU."""
        if self.version is None or table.is_inference():
            return torch.equal(self.copy, table)
        return table is self.table and _version(table) == self.version


def build_item_generator(
    n_items: int,
    code_num: int,
    code_length: int,
    embedding_dim: int,
    num_heads: int,
    head_dim: int,
    attn_dim: int,
    num_layers: int,
    dropout: float,
    max_history: int,
    *,
    causal: bool = False,
    itemwise: bool = False,
    decoder_dropout: float = 0.1,
    item_vectors: bool = False,
    learns_repeats: bool = False,
) -> ItemGenerator:
    """An encoder-decoder over tokens, or with `itemwise` a trunk over items and a decoder over codes, untrained.

    Args:
        causal: of the encoder-decoder; what is itemwise always is.
        decoder_dropout, item_vectors: of `ItemwiseGenerator`; the vectors are as many as n_items.
        learns_repeats: whether the history's items have a bias, `CodeRepeats`.

    Raises:
        ValueError: item_vectors without itemwise.
    """
    if item_vectors and not itemwise:
        raise ValueError("item_vectors needs itemwise=True: the other encoders read codes, and see no items")
    sizes = (code_num, code_length, embedding_dim, num_heads, head_dim, attn_dim, num_layers, dropout)
    network = (
        ItemwiseGenerator(*sizes, decoder_dropout, n_items if item_vectors else 0)
        if itemwise
        else SemanticIdGenerator(*sizes, causal)
    )
    return ItemGenerator(network, n_items, CodeRepeats(code_num, code_length, max_history) if learns_repeats else None)


def _version(table: Tensor) -> int | None:
    """None for what was made in inference mode: it counts no writes."""
    return None if table.is_inference() else table._version


def _without_padding(history: Tensor) -> Tensor:
    """Without the columns on the right in which nobody has an item; one stays."""
    longest = int((history != 0).any(0).sum())
    return history[:, : max(longest, 1)]
