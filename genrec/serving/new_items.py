"""Items that come after training: what a network makes of them, and how an answer may prefer them.

TIGER, ETEGRec and parallel semantic IDs know an item by its codes, so they know it as soon as it has some; a code table
of theirs grows by a row, and nothing is trained. SASRec, two towers and rankers have a vector for each item that only
training makes: to them new items do not exist, neither as recommendations nor in a history.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genrec.codes.code_table import build_code_table
from genrec.errors import UserError
from genrec.networks.generating.etegrec import ETEGRecNetwork
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.networks.generating.tiger import TigerNetwork
from genrec.serving.constrained import Ranked, RanksItems, Sampling


@dataclass(frozen=True)
class NewItems:
    """What is known of items that came after training, a row for each.

    Attributes:
        embeddings: (n, dim), in the space of those that the tokenizer was trained on.
        codes: (n, num_levels) int, by the frozen tokenizer.
        digits: (n, num_digits) int, by the frozen quantizers of parallel semantic IDs; None without such a model.
    """

    embeddings: Tensor
    codes: Tensor
    digits: Tensor | None


def extended_table(table: Tensor, codes: Tensor, code_num: int) -> Tensor:
    """A code table with rows for new items behind its own, which stay as they are.

    A new item that shares its codes with others gets the next collision code.

    Args:
        table: (n_items + 1, num_levels + 1) int.
        codes: (n, num_levels) int.

    Raises:
        UserError: more than code_num items share their codes.

    Example:
        >>> extended_table(torch.tensor([[-1, -1], [3, 0], [5, 0]]), torch.tensor([[3], [7]]), 8).tolist()
        [[-1, -1], [3, 0], [5, 0], [3, 1], [7, 0]]
    """
    extended = build_code_table(torch.cat([table[1:, :-1], codes.to(table)]), code_num).to(table)
    if not torch.equal(extended[: len(table)], table):
        raise UserError("the code table must number items of equal codes in their order; run `dvc repro -f package`")
    return extended


def extended_network(network: nn.Module, arguments: Mapping[str, Any], new: NewItems) -> nn.Module | None:
    """A network that knows the new items too, in eval mode; None for one that knows items by vectors of their own.

    Args:
        arguments: of its constructor.

    Raises:
        UserError: more items share their codes than can be told apart.
    """
    state = dict(network.state_dict())
    if isinstance(network, ParallelNetwork):
        assert new.digits is not None
        state["digits"] = torch.cat([state["digits"], new.digits.to(state["digits"])])
    elif isinstance(network, TigerNetwork | ETEGRecNetwork):
        codes = new.codes
        if isinstance(network, ETEGRecNetwork):  # its tokenizer moved while it trained
            codes = network.tokenizer.semantic_codes(new.embeddings)
            state["item_embeddings"] = torch.cat([state["item_embeddings"], new.embeddings])
        table = network.generator.code_table
        state["generator.code_table"] = extended_table(table, codes, network.generator.network.code_num)
        vectors = state.get("generator.network.item_embedding.weight")
        if vectors is not None:  # an item without a vector of its own is the sum of its codes'
            state["generator.network.item_embedding.weight"] = _with_rows_of_zeros(vectors, len(codes))
    else:
        return None
    extended = type(network)(**{**arguments, "n_items": arguments["n_items"] + len(new.codes)})
    extended.load_state_dict(state, strict=True)
    return extended.eval()


def _with_rows_of_zeros(vectors: Tensor, n: int) -> Tensor:
    return torch.cat([vectors, vectors.new_zeros(n, vectors.shape[1])])


@dataclass(frozen=True)
class Boosting:
    """A model whose new items are raised: who was never taken is rarely found likely.

    Attributes:
        n_trained: items of higher ids are new.
        boost: what is added to the logarithm of their probability, 0 or above.
    """

    model: RanksItems
    n_trained: int
    boost: float

    def rank(self, history: Tensor, allowed: Tensor, k: int, sampling: Sampling | None = None) -> Ranked:
        """The best k, as `RanksItems.rank`; new items are ranked once among all, and once by themselves."""
        among_all, new = ranked_apart(self.model, self.n_trained, history, allowed, k, sampling)
        return raised(among_all, new, self.n_trained, self.boost, k)


def ranked_apart(
    model: RanksItems, n_trained: int, history: Tensor, allowed: Tensor, k: int, sampling: Sampling | None = None
) -> tuple[Ranked, Ranked]:
    """The best k of all allowed items, and the best k of those alone that came after training."""
    new = allowed.clone()
    new[:, : n_trained + 1] = False
    return model.rank(history, allowed, k, sampling), model.rank(history, new, k, sampling)


def raised(among_all: Ranked, new: Ranked, n_trained: int, boost: float, k: int) -> Ranked:
    """The best k once `boost` is added to the new items' log-probabilities.

    Args:
        among_all, new: as `ranked_apart` gives them, at least k long.
    """
    known = among_all.log_probs.masked_fill(among_all.items > n_trained, -torch.inf)
    items = torch.cat([among_all.items, new.items], dim=1)
    best, order = torch.cat([known, new.log_probs + boost], dim=1).sort(dim=1, descending=True, stable=True)
    return Ranked(items.gather(1, order)[:, :k].masked_fill(best[:, :k] == -torch.inf, 0), best[:, :k])
