"""SASRec as two towers, for `MatchTrainer`."""

from torch import Tensor

from genrec.networks.generating.two_tower import TwoTower
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.tasks.features import Batch, look_up


class SASRecTowers(TwoTower):
    """SASRec as two towers: the state after the last item, and the item table."""

    def __init__(self, model: SASRecNetwork, history_name: str = "history", item_name: str = "item_id") -> None:
        super().__init__()
        self.model = model
        self.history_name = history_name
        self.item_names = [item_name]

    def user_tower(self, x: Batch) -> Tensor:
        return self.model.user_vectors(x[self.history_name])

    def item_tower(self, x: Batch) -> Tensor:
        return look_up(self.model.item_embedding, x[self.item_names[0]], self.item_names[0])
