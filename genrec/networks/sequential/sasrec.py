"""SASRec (Kang and McAuley 2018): the strong sequential baseline.

Letters: b batch, t positions, d dim.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genrec.layers.dropout import Dropout
from genrec.layers.history_cut import last_items
from genrec.layers.initialization import initialize_weights
from genrec.networks.sequential.causal import CausalBlock


class SASRecNetwork(nn.Module):
    """Scores of all items after each position; the item table is input and output at once."""

    def __init__(
        self,
        n_items: int,
        embedding_dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.3,
        max_history: int = 50,
    ) -> None:
        super().__init__()
        self.n_items = n_items
        self.max_history = max_history
        self.item_embedding = nn.Embedding(n_items + 1, embedding_dim, padding_idx=0)
        self.position_embedding = nn.Embedding(max_history, embedding_dim)
        blocks = nn.ModuleList(CausalBlock(embedding_dim, num_heads, dropout) for _ in range(num_layers))
        self.blocks: Sequence[CausalBlock] = blocks  # type: ignore[assignment]
        self.norm = nn.LayerNorm(embedding_dim)
        self.dropout = Dropout(dropout)
        initialize_weights(self, "normal")

    def forward(self, history: Tensor) -> Tensor:
        """The state after each item, at the places where the items stand.

        Args:
            history: (b, t) int64 item_ids, 0 = padding, on either side; t <= max_history.

        Returns:
            (b, t, d); zero at padding.

        Raises:
            ValueError: t is above max_history.
        """
        if history.shape[1] > self.max_history:
            raise ValueError(
                f"a history must have at most max_history={self.max_history} places, got {history.shape[1]}; cut it by "
                "genrec.layers.history_cut"
            )
        # real items first: then causality alone hides the padding, and positions count from the first item
        order = (history == 0).int().argsort(dim=1, stable=True)
        items = history.gather(1, order)
        x = self.item_embedding(items) + self.position_embedding.weight[: items.shape[1]]
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        states = torch.empty_like(x).scatter(1, order[..., None].expand_as(x), self.norm(x))
        return states.masked_fill((history == 0)[..., None], 0)

    def user_vectors(self, history: Tensor) -> Tensor:
        """The state after the last item, (b, d); of a longer history the last max_history items are read."""
        history = last_items(history, self.max_history)
        last = (torch.arange(history.shape[1], device=history.device) * (history != 0)).argmax(1)
        return self(history)[torch.arange(len(history), device=history.device), last]

    def scores(self, history: Tensor) -> Tensor:
        """(b, n_items + 1), column = item_id; padding is -inf."""
        scores = self.user_vectors(history) @ self.item_embedding.weight.T
        scores[:, 0] = -torch.inf
        return scores
