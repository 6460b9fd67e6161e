"""The table of digits: what parallel semantic IDs make an item of, some digits from each source of item embeddings.

row 0            -1   -1 | -1   -1     padding
row item_id       7    2 | 40    0     two digits of one source, two of another; all from 0..code_num - 1
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.digits.product_quantizer import ProductQuantizer, fit_product_quantizer
from genrec.errors import UserError

MOST_FITTED = 2**17  # items that a quantizer is fitted to; more add little and cost memory


def build_digits(
    sources: Sequence[tuple[NDArray[np.float32], int]], code_num: int, iterations: int, seed: int
) -> Tensor:
    """Quantize each source by itself, so that none is drowned by another of larger numbers.

    Args:
        sources: item embeddings (n_items + 1, dim), row = item_id, row 0 = padding; and how many digits they get.
        code_num: codes a digit.
        iterations: of the quantizer's fit.
        seed: of its beginning, and of the items that it is fitted to where there are many.

    Returns:
        (n_items + 1, digits of all sources) int32, row 0 = -1.

    Raises:
        UserError: a number of digits does not divide its source's dimensions.
    """
    quantizers = fit_quantizers(sources, code_num, iterations, seed)
    codes = digits_of([vectors[1:] for vectors, _ in sources], quantizers)
    return torch.cat([codes.new_full((1, codes.shape[1]), -1), codes])


def fit_quantizers(
    sources: Sequence[tuple[NDArray[np.float32], int]], code_num: int, iterations: int, seed: int
) -> list[ProductQuantizer]:
    """One for each source; the arguments are those of `build_digits`."""
    return [_quantizer(torch.from_numpy(vectors[1:]), n, code_num, iterations, seed) for vectors, n in sources]


def digits_of(vectors: Sequence[NDArray[np.float32]], quantizers: Sequence[ProductQuantizer]) -> Tensor:
    """The digits of items, (n_items, digits of all sources) int32; of each source (n_items, dim), without padding."""
    parts = [each.codes(torch.from_numpy(points)) for points, each in zip(vectors, quantizers, strict=True)]
    return torch.cat(parts, dim=1).int()


def _quantizer(points: Tensor, num_digits: int, code_num: int, iterations: int, seed: int) -> ProductQuantizer:
    if points.shape[1] % num_digits:
        raise UserError(
            f"digits must divide the dimensions of what they are made of, got {num_digits} digits of "
            f"{points.shape[1]} dimensions; choose another number of one of them"
        )
    generator = torch.Generator().manual_seed(seed)
    fitted = points[torch.randperm(len(points), generator=generator)[:MOST_FITTED].sort().values]
    return fit_product_quantizer(fitted, num_digits, code_num, iterations, generator)
