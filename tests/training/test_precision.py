"""What `auto` resolves to, that it is told, and whether a training is portable."""

import pytest
import torch

from genrec.training import products
from genrec.training.precision import precision_figure, processor_figure, resolve_precision


@pytest.fixture
def processor(monkeypatch):
    """A CPU that has the named units for bfloat16, and a GPU that may have one."""

    def have(amx=False, avx512=False, gpu=False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu)

    return have


@pytest.mark.parametrize("unit", ["amx", "avx512"])
def test_auto_is_bfloat16_where_the_processor_has_a_unit_for_it(processor, unit):
    processor(**{unit: True})
    assert resolve_precision("auto", gpus=0, portable=False) == "bf16-mixed"


def test_auto_is_float32_where_bfloat16_would_be_emulated(processor):
    processor(gpu=True)
    assert resolve_precision("auto", gpus=0, portable=False) == "32-true"


def test_auto_is_float32_where_another_processor_may_lack_the_unit(processor):
    processor(amx=True, avx512=True)
    assert resolve_precision("auto", gpus=0, portable=True) == "32-true"


@pytest.mark.parametrize(("gpu", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_on_a_gpu_the_gpu_decides(processor, gpu, expected):
    processor(amx=True, gpu=gpu)
    assert resolve_precision("auto", gpus=1, portable=True) == expected


@pytest.mark.parametrize("asked", ["32-true", "bf16-mixed"])
def test_what_is_asked_for_by_name_stays(processor, asked):
    processor(amx=asked == "32-true")
    assert resolve_precision(asked, gpus=0, portable=asked == "32-true") == asked


def test_only_what_auto_came_to_is_a_figure():
    assert precision_figure("auto", "bf16-mixed") == {"bf16": 1.0}
    assert precision_figure("auto", "32-true") == {"bf16": 0.0}
    assert precision_figure("32-true", "32-true") == {}


@pytest.mark.parametrize(
    ("torchs", "mkls", "numpys", "library", "expected"),
    [
        ("AVX2", "COMPATIBLE", "Haswell", "scipy-openblas", 1.0),
        ("AVX512", "COMPATIBLE", "Haswell", "scipy-openblas", 0.0),
        ("AVX2", "", "Haswell", "scipy-openblas", 0.0),
        ("AVX2", "COMPATIBLE", "", "scipy-openblas", 0.0),
        ("AVX2", "COMPATIBLE", "Haswell", "mkl-sdl", 0.0),
        ("DEFAULT", "", "", "scipy-openblas", 0.0),
    ],
)
def test_a_training_is_portable_by_what_the_libraries_act_on(monkeypatch, torchs, mkls, numpys, library, expected):
    monkeypatch.setattr(products, "numpys_library", lambda: library)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: torchs)
    monkeypatch.setenv("MKL_CBWR", mkls)
    monkeypatch.setenv("OPENBLAS_CORETYPE", numpys)
    assert processor_figure() == {"portable": expected}
