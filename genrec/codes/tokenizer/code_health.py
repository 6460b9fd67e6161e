"""How well a tokenizer spreads the items over its codes, and the gates that refuse one that has collapsed."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from genrec.codes.code_table import append_collision_codes, collision_rate
from genrec.errors import UserError


def code_health(codes: Tensor, code_num: int) -> dict[str, float]:
    """Figures of each level, of the worst level, and of whole rows.

    Args:
        codes: (n_items, num_levels) int.

    Returns:
        `usage` (share of codes in use) and `entropy` (of the codes' frequencies, 1 = all equally often), each as
        `_level_l` and, for the worst level, `min_`; `perplexity_level_l`, how many equally frequent codes would have
        that entropy; `entropy` and `perplexity` of whole rows; `collision_rate`; `largest_bucket` (items that share
        all codes).

    Example:
        >>> health = code_health(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 0]]), code_num=2)
        >>> health["usage_level_0"], health["entropy_level_0"], health["collision_rate"], health["largest_bucket"]
        (1.0, 1.0, 0.25, 2.0)
    """
    health: dict[str, float] = {}
    levels = range(codes.shape[1])
    for level in levels:
        counts = torch.bincount(codes[:, level], minlength=code_num)
        health[f"usage_level_{level}"] = float((counts > 0).double().mean())
        health |= _spread(counts, code_num, f"_level_{level}")
    health |= _spread(torch.unique(codes, dim=0, return_counts=True)[1], code_num ** len(levels))
    health["min_usage"] = min(health[f"usage_level_{level}"] for level in levels)
    health["min_entropy"] = min(health[f"entropy_level_{level}"] for level in levels)
    health["collision_rate"] = collision_rate(codes)
    health["largest_bucket"] = float(append_collision_codes(codes)[:, -1].max() + 1)
    return health


def _spread(counts: Tensor, n_possible: int, suffix: str = "") -> dict[str, float]:
    """Entropy, as a share of the most that is possible, and perplexity of codes that occur `counts` times."""
    frequencies = counts.double() / counts.sum()
    entropy = float(torch.special.entr(frequencies).sum())
    # a small catalogue cannot fill all codes: its own size bounds what is possible
    possible = math.log(min(n_possible, int(counts.sum())))
    return {f"entropy{suffix}": entropy / possible if possible else 1.0, f"perplexity{suffix}": math.exp(entropy)}


def refuse_collapse(codes: Tensor) -> None:
    """Stop when a tokenizer gives all items (n_items, num_levels) the same codes: no training heals that.

    Raises:
        UserError: names the number of items.
    """
    if len(codes) > 1 and (codes == codes[0]).all():
        raise UserError(
            f"the codebooks have collapsed, all {len(codes)} items have the codes {codes[0].tolist()}; lower the "
            "learning rate, or give embeddings that differ"
        )


def check_gates(
    health: Mapping[str, float],
    min_usage: float,
    min_entropy: float,
    max_collision_rate: float,
    place: str = "train_rqvae.gates",
    way_out: str = "Train it longer, change model.code_num or model.num_levels, or take train_rqvae.tokenizer=rqkmeans",
) -> None:
    """Refuse a tokenizer whose figures are outside the bounds.

    Args:
        place: where the bounds stand in params.yaml.
        way_out: what helps.

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
        raise UserError(f"the tokenizer failed its gates ({place}): {'; '.join(broken)}. {way_out}")
