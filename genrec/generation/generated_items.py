"""What generators answer with, apart from them: whoever ranks or measures items need not know how they were found."""

from typing import NamedTuple

from torch import Tensor


class GeneratedItems(NamedTuple):
    """What the search found for each user, best first, or what was sampled, in the order in which it was drawn.

    Attributes:
        items: (batch, n_beams) int64 item_ids; 0 where a beam is no item.
        log_probs: (batch, n_beams); -inf where the catalogue has fewer items than beams.
    """

    items: Tensor
    log_probs: Tensor
