"""Batch normalisation of several processes, each with its share of the batch, beside torch's own of the whole."""

import pytest
import torch
from processes_together import run_together
from torch import nn

from genrec.layers.batch_norm import BatchNorm
from genrec.layers.processes import share_of, summed

pytestmark = pytest.mark.slow
N_FEATURES, FAR = 3, 100.0


def batches(n):
    """Of an odd number of rows, some far from zero, where sums of squares would lose their digits."""
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(n, 7, N_FEATURES, generator=random)
    return rows * torch.tensor([1.0, 5.0, 0.5]) + torch.tensor([0.0, 1.0, FAR])


def normalised(kind):
    """Outputs, summed gradients and buffers after two steps, and what eval mode gives then."""
    layer, outputs = kind(N_FEATURES), []
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    for batch in batches(2):
        inputs = batch.clone().requires_grad_()
        outputs.append(layer(share_of(inputs)))
        outputs[-1].pow(3).sum().backward()
        outputs.append(summed(inputs.grad))
    gradients = [summed(parameter.grad) for parameter in layer.parameters()]
    buffers = [layer.running_mean, layer.running_var, layer.num_batches_tracked]
    found = [*outputs, *gradients, *buffers, layer.eval()(batches(1)[0])]
    return [each.detach().numpy() for each in found]


def test_two_processes_normalise_by_the_whole_batch(tmp_path):
    alone = normalised(nn.BatchNorm1d)
    together = run_together(normalised, tmp_path, BatchNorm)
    for rank, found in enumerate(together):
        for place, (ours, torchs) in enumerate(zip(found, alone, strict=True)):
            is_share = place in (0, 2)
            expected = torchs[rank::2] if is_share else torchs
            assert ours == pytest.approx(expected, rel=2e-4, abs=2e-4), place


def test_alone_it_is_torchs_own_to_the_last_bit():
    for ours, torchs in zip(normalised(BatchNorm), normalised(nn.BatchNorm1d), strict=True):
        assert (ours == torchs).all()


def in_bfloat16():
    outputs = BatchNorm(N_FEATURES)(share_of(batches(1)[0]).bfloat16())
    return outputs.dtype, float(outputs.float().abs().max())


def test_bfloat16_is_normalised_in_float32_and_given_back(tmp_path):
    (kind, largest), (other_kind, _) = run_together(in_bfloat16, tmp_path)
    assert kind == other_kind == torch.bfloat16
    assert largest < 7**0.5 + 0.1
