"""The whole pipeline run again: what is reused, what is refused, and the same bytes, also after a kill."""

import json
import os
import signal
import subprocess
import time

import pytest
import torch

from genrec.pipeline.execution import PUBLISHING
from genrec.processor import can_be_portable

pytestmark = pytest.mark.pipeline

# a training by each loop and each search, and one without any; the whole pipeline is run again once, further down
STAGES_OF_ALL_KINDS = (
    "train_sasrec",
    "train_rqvae",
    "build_code_table",
    "train_tiger",
    "train_ranker",
    "evaluate_tiger",
)


def test_other_list_lengths_rerun_only_what_measures(project):
    output = project.dvc("exp", "run", "-n", "ks", "-S", "evaluate.ks=[3,7]")
    assert "Running stage 'train_" not in output
    assert "recall_at_7" in project.metrics("evaluate_sasrec")["sasrec"]["test"]["kept"]
    project.run("git", "checkout", "-q", ".")
    project.dvc("checkout")


def test_what_can_not_change_a_result_reruns_nothing(project):
    output = project.dvc("exp", "run", "-n", "quiet", "-S", "runtime.progress_bar=false")
    assert "Running stage" not in output.replace(f"Running stage '{PUBLISHING}'", "")
    project.run("git", "checkout", "-q", ".")


def test_a_typo_stops_the_pipeline_before_any_stage(project):
    file = project.folder / "params.yaml"
    text = file.read_text()
    file.write_text(text.replace("code_num:", "code_nun:"))
    output = project.dvc("repro", "-f", "prepare_data", expect=None)
    file.write_text(text)
    assert "unknown key 'model.code_nun'; did you mean 'model.code_num'?" in output
    assert "Traceback" not in output


def test_computing_everything_again_gives_the_same_bytes(project):
    lock = (project.folder / "dvc.lock").read_text()
    project.dvc("repro", "-f")
    assert (project.folder / "dvc.lock").read_text() == lock
    project.run("git", "checkout", "-q", ".")


def test_an_interrupted_training_goes_on_and_ends_with_the_same_bytes(project):
    lock = (project.folder / "dvc.lock").read_text()
    command = ["dvc", "repro", "-f", "-s", "train_sasrec"]
    killed = subprocess.Popen(command, cwd=project.folder, env=project.environment, start_new_session=True)
    scratch = project.folder / ".genrec/scratch"
    while killed.poll() is None and not list(scratch.glob("train_sasrec-*/last.ckpt")):
        time.sleep(0.005)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    output = project.run(*command)
    assert "resuming train_sasrec after epoch" in output
    assert (project.folder / "dvc.lock").read_text() == lock


OTHER_PROCESSORS = {
    "without vector instructions": {
        "ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MKL_CBWR": "SSE4_2",
        "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem",
    },
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Zen",
    },
    "AVX-512": {
        "ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AVX512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16",
        "NPY_ENABLE_CPU_FEATURES": "", "OPENBLAS_CORETYPE": "Haswell",
    },
}  # fmt: skip


@pytest.mark.skipif(not can_be_portable(), reason="no x86-64 with AVX2")
@pytest.mark.parametrize("forced", OTHER_PROCESSORS.values(), ids=OTHER_PROCESSORS)
def test_training_gives_the_same_bytes_whatever_instructions_its_parent_asks_for(project, monkeypatch, forced):
    lock = (project.folder / "dvc.lock").read_text()
    monkeypatch.setattr(project, "environment", {**project.environment, **forced})
    project.dvc("repro", "-f", "-s", *STAGES_OF_ALL_KINDS)
    assert (project.folder / "dvc.lock").read_text() == lock


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="no vector instructions to leave out")
def test_the_processors_own_instructions_show_in_the_bytes(project, monkeypatch):
    # what proves that the test above can fail
    project.set(**{"trainer.portable": False})
    monkeypatch.setattr(project, "environment", {**project.environment, "ATEN_CPU_CAPABILITY": "default"})
    lock = (project.folder / "dvc.lock").read_text()
    project.dvc("repro", "-s", "train_sasrec")
    assert checkpoint_in((project.folder / "dvc.lock").read_text()) != checkpoint_in(lock)
    assert project.metrics("train_sasrec")["portable"] == 0
    project.run("git", "checkout", "-q", ".")
    project.dvc("checkout")


def checkpoint_in(lock):
    """The hash of SASRec's checkpoint."""
    return lock.partition("path: data/models/sasrec.ckpt")[2].split("md5: ")[1].split()[0]


def test_a_search_makes_an_experiment_and_a_run_of_each_trial_and_goes_on(project, tmp_path):
    varied = {"train_sasrec.max_epochs": [1, 2], "train_sasrec.dropout": {"low": 0.1, "high": 0.5}}
    objective = "train_sasrec/best_val_ndcg_at_10"
    (tmp_path / "tiny.yaml").write_text(json.dumps({"objective": objective, "params": varied}))
    search = ("python", "-m", "genrec.search", str(tmp_path / "tiny.yaml"), "-j", "2", "--trials")
    before = project.run("git", "status", "--short")
    assert "2 trials; best" in project.run(*search, "2")
    told = project.run(*search, "3").splitlines()
    assert [line.split()[0] for line in told] == ["tiny-0002", "3", "dvc"]
    named = project.run("git", "for-each-ref", "--format=%(refname:lstrip=-1)", "refs/exps/*/*/tiny-*").split()
    assert sorted(named) == ["tiny-0000", "tiny-0001", "tiny-0002"]
    runs = {run["name"]: run for run in project.runs() if str(run["name"]).startswith("tiny-")}
    assert sorted(runs) == sorted(named)
    assert {run["status"] for run in runs.values()} == {"FINISHED"}
    assert all(objective in run["metrics"] for run in runs.values())
    assert project.run("git", "status", "--short") == before
