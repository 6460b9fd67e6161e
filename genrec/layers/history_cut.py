"""What a model reads of a history that is longer than the histories it was trained on."""

from torch import Tensor


def last_items(history: Tensor, n: int) -> Tensor:
    """Histories cut to their last n items; those that fit stay as they are.

    Args:
        history: (batch, length) int64 item_ids, 0 = padding, on either side.

    Returns:
        (batch, at most n), padded on the right where it was cut.

    Example:
        >>> import torch
        >>> last_items(torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), 3).tolist()
        [[2, 3, 4], [5, 6, 0]]
    """
    if history.shape[1] <= n:
        return history
    at_end = history.gather(1, (history != 0).int().argsort(dim=1, stable=True))[:, -n:]
    return at_end.gather(1, (at_end == 0).int().argsort(dim=1, stable=True))
