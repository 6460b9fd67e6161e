"""What a model says must be numbers before it is measured: comparisons with NaN are false, and so look like success."""

from torch import Tensor

from genrec.errors import UserError

WAY_OUT = "the model diverged: lower the learning rate, or look for extreme values in what it learns from"


def check_finite(values: Tensor, name: str) -> None:
    """Refuse NaN and infinity, as scikit-learn's metrics do.

    Raises:
        UserError: with the name and how many they are.
    """
    is_finite = values.isfinite()
    if not is_finite.all():
        n_bad = values.numel() - int(is_finite.sum())
        raise UserError(f"{name} must be finite, but {n_bad} of {values.numel()} are NaN or infinite; {WAY_OUT}")


def check_ordered(scores: Tensor, name: str = "scores") -> None:
    """Refuse NaN alone: an infinite score still has its place in an order, and -inf excludes an item.

    Raises:
        UserError: with the name and how many they are.
    """
    is_nan = scores.isnan()
    if is_nan.any():
        raise UserError(f"{name} must be numbers, but {int(is_nan.sum())} of {scores.numel()} are NaN; {WAY_OUT}")
