"""What a model is given as history must be items that it knows: torch's own messages name neither item nor limit."""

from torch import Tensor


def check_item_ids(history: Tensor, n_items: int) -> None:
    """Refuse item_ids that no item has; a negative one would be read as another item's, and a GPU would abort.

    Args:
        history: int64 item_ids of any shape, 0 = padding.

    Raises:
        ValueError: with the first of them and the limit.
    """
    is_wrong = (history < 0) | (history > n_items)
    if is_wrong.any():
        raise ValueError(
            f"a history must hold item_ids of 1 to {n_items}, or 0 for padding, got {int(history[is_wrong][0])}; "
            "number items as the model's catalogue does, and leave out those that it does not have"
        )
