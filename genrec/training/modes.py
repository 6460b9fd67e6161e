"""Eval mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode; afterwards as before."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
