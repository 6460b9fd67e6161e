"""The whole pipeline run again: what is reused, what is refused, and the same bytes, also after a kill."""

import os
import signal
import subprocess
import time

import pytest

from genrec.pipeline.execution import PUBLISHING

pytestmark = pytest.mark.pipeline


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
