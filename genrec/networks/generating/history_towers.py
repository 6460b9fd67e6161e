"""The pipeline's two-tower model: a history and its last item on one side, an item on the other."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from genrec.modules.history_cut import last_items
from genrec.networks.generating.two_tower import DSSM, TwoTower, YoutubeDNN
from genrec.tasks.features import Batch, Feature, SequenceFeature, SparseFeature

NETWORKS = ("dssm", "youtube_dnn")


class HistoryTowers(pl.LightningModule):
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
        self.save_hyperparameters()
        self.max_history = max_history
        self.temperature = temperature
        item = SparseFeature("target", n_items + 1, embedding_dim, padding_idx=0)
        user: list[Feature] = [
            SequenceFeature("history", n_items + 1, embedding_dim, shared_with="target"),
            SparseFeature("last", n_items + 1, embedding_dim, shared_with="target"),
        ]
        if network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {network!r}")
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
        """(batch, n_items + 1), column = item_id; padding is -inf."""
        items = torch.arange(self.hparams["n_items"] + 1, device=history.device)
        scores = self.user_tower({"history": history}) @ self.item_tower({"target": items}).T / self.temperature
        scores[:, 0] = -torch.inf
        return scores
