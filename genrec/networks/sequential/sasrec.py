"""SASRec (Kang and McAuley 2018): the strong sequential baseline.

Letters: b batch, t positions, d dim.
"""

import torch
from torch import Tensor, nn

from genrec.layers.history_cut import last_items
from genrec.layers.initialization import initialize_weights
from genrec.layers.item_ids import check_item_ids
from genrec.layers.tiles import score_in_tiles
from genrec.networks.sequential.causal import CausalTransformer, last_states
from genrec.networks.sequential.repeats import RepeatBias


class SASRecNetwork(nn.Module):
    """Scores of all items after each position; the item table is input and output at once.

    Args:
        input_norm: normalise what enters the first block, so that neither items nor positions drown the other.
        learns_repeats: whether items of the history have a learned bias.
        content_dim: of what is known of items beforehand, such as their words, which `set_content` takes; a projection
            of it is added to each item's own vector. 0 for nothing.
    """

    def __init__(
        self,
        n_items: int,
        embedding_dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.3,
        max_history: int = 50,
        *,
        input_norm: bool = False,
        learns_repeats: bool = False,
        content_dim: int = 0,
    ) -> None:
        super().__init__()
        self.n_items = n_items
        self.max_history = max_history
        self.content_dim = content_dim
        self.item_embedding = nn.Embedding(n_items + 1, embedding_dim, padding_idx=0)
        self.content: Tensor
        self.register_buffer("content", torch.zeros(n_items + 1, content_dim) if content_dim else None)
        self.content_projection = nn.Linear(content_dim, embedding_dim, bias=False) if content_dim else None
        self.transformer = CausalTransformer(embedding_dim, num_layers, num_heads, dropout, max_history, input_norm)
        self.repeats = RepeatBias(max_history) if learns_repeats else None
        initialize_weights(self, "normal")

    def set_content(self, vectors: Tensor) -> None:
        """What is known of items beforehand: (n_items + 1, content_dim), row 0 = padding; saved with the weights."""
        expected = (self.n_items + 1, self.content_dim)
        if vectors.shape != expected:
            raise ValueError(f"content must be {expected}, got {tuple(vectors.shape)}")
        self.content.copy_(vectors)

    def item_vectors(self, items: Tensor) -> Tensor:
        """What stands for items at the input and at the output: item_ids of any shape to (..., d)."""
        vectors = self.item_embedding(items)
        if self.content_projection is None:
            return vectors
        return vectors + self.content_projection(self.content[items])

    def forward(self, history: Tensor) -> Tensor:
        """The state after each item, at the places where the items stand.

        Args:
            history: (b, t) int64 item_ids, 0 = padding, on either side; t <= max_history.

        Returns:
            (b, t, d); zero at padding.

        Raises:
            ValueError: t is above max_history.
        """
        return self.transformer(history, self.item_vectors)

    def user_vectors(self, history: Tensor) -> Tensor:
        """The state after the last item, (b, d); of a longer history the last max_history items are read.

        Raises:
            ValueError: the history holds what is no item_id.
        """
        check_item_ids(history, self.n_items)
        history = last_items(history, self.max_history)
        return last_states(self(history), history)

    def scores(self, history: Tensor) -> Tensor:
        """(b, n_items + 1), column = item_id; padding is -inf. A row's bytes are the same in any batch."""
        items = self._item_table()

        def score(history: Tensor) -> Tensor:
            scores = self.user_vectors(history) @ items.T
            return scores if self.repeats is None else self.repeats.add_to(scores, history)

        scores = score_in_tiles(score, last_items(history, self.max_history), self.max_history)
        scores[:, 0] = -torch.inf
        return scores

    def _item_table(self) -> Tensor:
        """(n_items + 1, d), the vectors of all items; not a copy where they are the table of the embedding."""
        if self.content_projection is None:
            return self.item_embedding.weight
        return self.item_vectors(torch.arange(self.n_items + 1, device=self.content.device))
