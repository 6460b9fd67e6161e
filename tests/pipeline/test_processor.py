"""A stage's process tells the libraries of numbers how to compute before it loads them; nothing else does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_pipeline import PROJECT

import stages
from genrec import processor
from genrec.params.reading import read_yaml
from genrec.pipeline.stage_environment import begin_stage
from genrec.processor import PORTABLE, can_be_portable, portable_environment

PROBE = """
'''What a stage of this name finds.'''
import os, sys
assert not {"numpy", "torch"} & sys.modules.keys()
print({name: os.environ.get(name) for name in ("ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS", "MKL_ENABLE_INSTRUCTIONS")})
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").write_text((PROJECT / "stages" / "__init__.py").read_text())
    for stage in ("train_sasrec", "build_code_table"):
        (tmp_path / "stages" / f"{stage}.py").write_text(PROBE)
    write_params(tmp_path)
    return tmp_path


def write_params(folder, portable="true", threads=3):
    text = (PROJECT / "params.yaml").read_text().replace("portable: true", f"portable: {portable}")
    (folder / "params.yaml").write_text(text.replace("num_threads: 1", f"num_threads: {threads}"))


def found_by(folder, *command):
    """The variables that a process finds whose parent asks for other instructions and another number of threads."""
    environment = {
        **os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{PROJECT}", "ATEN_CPU_CAPABILITY": "default",
        "OMP_NUM_THREADS": "7", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(not can_be_portable(), reason="no x86-64 with AVX2")
class TestStage:
    def test_it_computes_as_params_say_whatever_its_parent_asks_for(self, folder):
        expected = {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "3", "MKL_ENABLE_INSTRUCTIONS": None}
        assert found_by(folder, "-m", "stages.train_sasrec") == str(expected)

    def test_with_all_that_the_processor_has_its_parent_decides(self, folder):
        write_params(folder, portable="false")
        expected = {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "3", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
        assert found_by(folder, "-m", "stages.train_sasrec") == str(expected)

    def test_one_that_does_not_depend_on_the_trainer_is_portable_and_has_one_thread(self, folder):
        write_params(folder, portable="false")
        expected = {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1", "MKL_ENABLE_INSTRUCTIONS": None}
        assert found_by(folder, "-m", "stages.build_code_table") == str(expected)

    def test_a_program_that_imports_it_keeps_its_own_environment(self, folder):
        expected = {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "7", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
        assert found_by(folder, "-c", "import stages.build_code_table") == str(expected)


def test_the_stages_that_are_always_portable_are_those_that_do_not_depend_on_the_trainer():
    pipeline = read_yaml(PROJECT / "dvc.yaml")["stages"]
    assert {name for name, stage in pipeline.items() if "trainer" not in stage.get("params", [])} == set(
        stages.WITHOUT_TRAINER
    )


def test_a_mistake_in_the_params_is_left_to_the_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    begin_stage(())
    assert dict(os.environ) == before


def test_another_kind_of_processor_keeps_its_own_instructions(monkeypatch):
    for machine in ("arm64", "aarch64"):
        monkeypatch.setattr(processor.platform, "machine", lambda machine=machine: machine)
        assert not can_be_portable()


@pytest.mark.parametrize(("flags", "expected"), [("fma avx2", True), ("fma avx avx2x", False)])
def test_an_x86_without_avx2_keeps_its_own_too(monkeypatch, tmp_path, flags, expected):
    told = tmp_path / "cpuinfo"
    told.write_text(f"flags\t\t: sse {flags}\nbugs\t\t: none\n")
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(processor, "Path", lambda name: told if name == "/proc/cpuinfo" else Path(name))
    assert can_be_portable() is expected


def test_what_would_set_it_aside_is_not_handed_on(monkeypatch):
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "5")
    environment = portable_environment(threads=2)
    assert environment.items() >= {**PORTABLE, "OMP_NUM_THREADS": "2"}.items()
    assert "MKL_DEBUG_CPU_TYPE" not in environment
