"""What `trainer.gpus` means outside of a training."""

import pytest
import torch

from genrec.errors import UserError
from genrec.layers.device import device_of


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    torch.use_deterministic_algorithms(False)  # a training before may have asked for them
    yield
    torch.use_deterministic_algorithms(False)


def machine_with(monkeypatch, cuda=False, mps=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_no_gpu_is_the_cpu(monkeypatch):
    machine_with(monkeypatch, cuda=True)
    assert device_of(0) == torch.device("cpu")
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_first_gpu_computes_deterministically(monkeypatch):
    machine_with(monkeypatch, cuda=True)
    assert device_of(1) == torch.device("cuda:0")
    assert torch.are_deterministic_algorithms_enabled()


def test_apples_is_a_gpu_too(monkeypatch):
    machine_with(monkeypatch, mps=True)
    assert device_of(1) == torch.device("mps")


def test_a_machine_without_one_is_told_before_anything_is_loaded(monkeypatch):
    machine_with(monkeypatch)
    with pytest.raises(UserError, match="trainer.gpus is 1, but torch finds no GPU"):
        device_of(1)
