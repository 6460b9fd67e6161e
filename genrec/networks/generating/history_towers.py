"""The pipeline's two-tower model: a history and its last item on one side, an item on the other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genrec.choices import TowerNetwork, check_choice
from genrec.layers.history_cut import last_items
from genrec.layers.kept_table import KeepsTable
from genrec.layers.tiles import score_in_tiles
from genrec.networks.generating.two_tower import DSSM, TwoTower, YoutubeDNN
from genrec.tasks.features import Batch, Feature, SequenceFeature, SparseFeature

CHUNK_ITEMS = 2**17  # of a catalogue whose vectors are made piece by piece


class HistoryTowers(KeepsTable):
    """A network of `models.two_tower` for batches of `history` (batch, length) and `target` (batch,)."""

    item_names = ("target",)

    def __init__(
        self,
        n_items: int,
        network: str = "dssm",
        embedding_dim: int = 64,
        hidden_dims: Sequence[int] = (128,),
        temperature: float = 0.1,
        dropout: float = 0.0,
        max_history: int = 20,
    ) -> None:
        super().__init__()
        self.hparams: dict[str, Any] = {
            "n_items": n_items,
            "network": network,
            "embedding_dim": embedding_dim,
            "hidden_dims": hidden_dims,
            "temperature": temperature,
            "dropout": dropout,
            "max_history": max_history,
        }
        self.n_items = n_items
        self.max_history = max_history
        self.temperature = temperature
        item = SparseFeature("target", n_items + 1, embedding_dim, padding_idx=0)
        user: list[Feature] = [
            SequenceFeature("history", n_items + 1, embedding_dim, shared_with="target"),
            SparseFeature("last", n_items + 1, embedding_dim, shared_with="target"),
        ]
        check_choice("network", network, TowerNetwork)
        self.network: TwoTower = (
            DSSM(user, [item], hidden_dims, embedding_dim, temperature, dropout)
            if network == "dssm"
            else YoutubeDNN(user, item, hidden_dims, temperature, dropout)
        )

    def user_tower(self, x: Batch) -> Tensor:
        """(batch, dim), of the last max_history items."""
        history = last_items(x["history"], self.max_history)
        last = (torch.arange(history.shape[1], device=history.device) * (history != 0)).argmax(1)
        return self.network.user_tower({"history": history, "last": history.gather(1, last[:, None]).squeeze(1)})

    def item_tower(self, x: Batch) -> Tensor:
        """(batch, dim)."""
        return self.network.item_tower(x)

    def scores(self, history: Tensor) -> Tensor:
        """(batch, n_items + 1), column = item_id; padding is -inf. A row's bytes are the same in any batch."""
        items = self.kept_table(self.n_items + 1, lambda items: self.item_tower({"target": items}), CHUNK_ITEMS)
        scores = score_in_tiles(
            lambda part: self.user_tower({"history": part}) @ items.T / self.temperature,
            last_items(history, self.max_history),
            self.max_history,
        )
        scores[:, 0] = -torch.inf
        return scores
