"""How well a tokenizer spreads the items over its codes, and the gates that refuse one that has collapsed."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from genrec.code_table import append_collision_codes, collision_rate
from genrec.errors import UserError


def code_health(codes: Tensor, code_num: int) -> dict[str, float]:
    """Figures of each level, of the worst level, and of whole rows.

    Args:
        codes: (n_items, num_levels) int.

    Returns:
        `usage` (share of codes in use) and `entropy` (of the codes' frequencies, 1 = all equally often), each as
        `_level_l` and, for the worst level, `min_`; `collision_rate`; `largest_bucket` (items that share all codes).

    Example:
        >>> health = code_health(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 0]]), code_num=2)
        >>> health["usage_level_0"], health["entropy_level_0"], health["collision_rate"], health["largest_bucket"]
        (1.0, 1.0, 0.25, 2.0)
    """
    health: dict[str, float] = {}
    for level, column in enumerate(codes.unbind(1)):
        counts = torch.bincount(column, minlength=code_num).double()
        health[f"usage_level_{level}"] = float((counts > 0).double().mean())
        # a small catalogue can not fill all codes: its own size bounds what is possible
        possible = math.log(min(code_num, len(codes)))
        entropy = float(torch.special.entr(counts / counts.sum()).sum())
        health[f"entropy_level_{level}"] = entropy / possible if possible else 1.0
    levels = range(codes.shape[1])
    health["min_usage"] = min(health[f"usage_level_{level}"] for level in levels)
    health["min_entropy"] = min(health[f"entropy_level_{level}"] for level in levels)
    health["collision_rate"] = collision_rate(codes)
    health["largest_bucket"] = float(append_collision_codes(codes)[:, -1].max() + 1)
    return health


def refuse_collapse(codes: Tensor) -> None:
    """Stop when a tokenizer gives all items (n_items, num_levels) the same codes: no training heals that.

    Raises:
        UserError: names the number of items.
    """
    if len(codes) > 1 and (codes == codes[0]).all():
        raise UserError(
            f"the codebooks have collapsed, all {len(codes)} items have the codes {codes[0].tolist()}; lower "
            "train_rqvae.learning_rate, or give embeddings that differ"
        )


def check_gates(health: Mapping[str, float], min_usage: float, min_entropy: float, max_collision_rate: float) -> None:
    """Refuse a tokenizer whose figures are outside the bounds.

    Raises:
        UserError: names each figure and its bound.
    """
    broken = [
        f"{name} {health[name]:.3f} is {'below' if is_lower else 'above'} {bound}"
        for name, bound, is_lower in (
            ("min_usage", min_usage, True),
            ("min_entropy", min_entropy, True),
            ("collision_rate", max_collision_rate, False),
        )
        if (health[name] < bound if is_lower else health[name] > bound)
    ]
    if broken:
        raise UserError(
            f"the tokenizer failed its gates (train_rqvae.gates): {'; '.join(broken)}. Train it longer, change "
            "model.code_num or model.num_levels, or take train_rqvae.tokenizer=rqkmeans"
        )
