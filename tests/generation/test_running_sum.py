"""The running sum by its two ways: torch's on a CPU, a product elsewhere."""

import pytest
import torch
from other_device import DEVICE, other_device

from genrec.generation.running_sum import running_sum


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_both_ways_agree(dim):
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with other_device():
        there = running_sum(x.to(DEVICE), dim).cpu()
    torch.testing.assert_close(there, running_sum(x, dim))
