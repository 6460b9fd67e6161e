"""The names among which params.yaml and constructors choose: each list stands here, once.

They are names alone, and no stage depends on this file: what a name means is decided where it is used.
"""

from typing import Any, Literal, get_args

SasrecLoss = Literal["full_softmax", "sampled_softmax"]
Quantizer = Literal["straight_through", "sinkhorn", "rotation", "ema"]
Schedule = Literal["constant", "inverse_sqrt", "cosine"]
SiaSign = Literal["paper", "authors"]
TowerNetwork = Literal["dssm", "youtube_dnn"]
ClickNetwork = Literal["wide_deep", "deep_fm", "din"]
RatingNetwork = Literal["shared_bottom", "mmoe", "ple"]
RankerNetwork = Literal[ClickNetwork, RatingNetwork, "esmm"]


def check_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a value that is not on a list.

    Raises:
        ValueError: it is none of them.

    Example:
        >>> check_choice("sia_sign", "author", SiaSign)
        Traceback (most recent call last):
        ...
        ValueError: sia_sign must be one of paper, authors, got 'author'
    """
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
