"""Whether people take an item again, learned: a bias for the items of the history by how long ago they were taken.

With one item table for input and output a state is close to the items it is made of, and puts them first; where nobody
repeats, that costs the first places of every list. The bias lets a model learn what its data says.

Letters: b batch, t positions, s earlier positions.
"""

import torch
from torch import Tensor, nn

SPEED = 10.0  # Adam moves a number by the learning rate a step, and a bias has farther to go than a weight


class RepeatBias(nn.Module):
    """A number to add to the logit of each item of the history; the last time that it was taken counts.

    Args:
        max_history: recencies that have a number of their own; farther ones share the last.

    Example:
        >>> bias = RepeatBias(3)
        >>> bias.weight.data = torch.tensor([-0.1, 0.0, 0.2])
        >>> bias.add_to(torch.zeros(1, 5), torch.tensor([[4, 1, 4, 2]])).tolist()
        [[0.0, 2.0, -1.0, 0.0, 0.0]]
    """

    def __init__(self, max_history: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(max_history))

    def forward(self, recency: Tensor) -> Tensor:
        """The bias of items that were taken `recency` items ago, 0 for the last one."""
        return SPEED * self.weight[recency.clamp(0, len(self.weight) - 1)]

    def add_to(self, scores: Tensor, history: Tensor) -> Tensor:
        """Scores of all items after a whole history.

        Args:
            scores: (b, n_items + 1), column = item_id.
            history: (b, t) item_ids, 0 = padding, on either side.
        """
        return scores.scatter_add(1, history, self.at_places(history).to(scores.dtype))

    def at_places(self, history: Tensor) -> Tensor:
        """The bias of the item at each place, seen from the end; 0 for padding and for an item that comes again.

        Args:
            history: (b, t) item_ids, 0 = padding, on either side.

        Returns:
            (b, t).
        """
        recency = (history != 0).flip(1).cumsum(1).flip(1) - 1  # how many items follow
        return self(recency).masked_fill(~_is_last(history), 0)


def visible_repeats(history: Tensor) -> Tensor:
    """Which places of a history stand for an item at each position: not a later place, and of equal items the last.

    Args:
        history: (b, t), padded on the right.

    Returns:
        (b, t, s) bool.

    Example:
        >>> visible_repeats(torch.tensor([[7, 5, 7]])).int().tolist()
        [[[1, 0, 0], [1, 1, 0], [0, 1, 1]]]
    """
    length = history.shape[1]
    place = torch.arange(length, device=history.device)
    later = (history[:, :, None] == history[:, None, :]) & (place > place[:, None])  # (b, s, t): taken again at t
    again = torch.where(later, place, length).amin(2)  # (b, s): the next time
    position = place[:, None]
    return (place <= position) & (position < again[:, None, :]) & (history != 0)[:, None, :]


def _is_last(history: Tensor) -> Tensor:
    """(b, t) bool: a real item that does not stand again further on."""
    place = torch.arange(history.shape[1], device=history.device)
    again = (history[:, :, None] == history[:, None, :]) & (place > place[:, None])
    return ~again.any(2) & (history != 0)
