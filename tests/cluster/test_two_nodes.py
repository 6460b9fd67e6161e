"""Stages on a Ray cluster of two nodes, which are processes of this machine: `make test-cluster`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.stages_in_processes import digests, remove_outputs, run_stage_process, write_params

from cluster.two_nodes import TwoNodes, blind_node

pytestmark = pytest.mark.cluster

STAGE = "train_sasrec"
EPOCHS = 6
SMALL: Mapping[str, Any] = {
    "fetch_data": {"synthetic": {"n_users": 400}},
    # at three times the rate one weight of one seed drifted by 1.5e-5 in so many epochs
    STAGE: {"max_epochs": EPOCHS, "patience": EPOCHS, "batch_size": 64, "learning_rate": 0.001},
    "evaluate": {"batch_size": 64},  # more batches than processes
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small project after a training and an evaluation by one process, without a cluster."""
    folder = tmp_path_factory.mktemp("alone") / "project"
    write_params(folder, SMALL, {"trainer": {"portable": False}})
    for stage in ("fetch_data", "prepare_data", "count_transitions", STAGE, "evaluate_sasrec"):
        answer = run_stage_process(folder, stage)
        assert answer.status == 0, answer.said
    return folder


@pytest.fixture(scope="module")
def together(alone: Path, nodes: TwoNodes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same project after a training by two processes, one on each node."""
    folder = tmp_path_factory.mktemp("together") / "project"
    shutil.copytree(alone, folder)
    remove_outputs(folder, STAGE)
    write_params(folder, SMALL, {"trainer": {"num_nodes": 2, "portable": False}})
    status, said = finish(folder, nodes.address, STAGE)
    assert status == 0, said
    assert said.splitlines()[-1] == f"{STAGE} is done; now `dvc commit {STAGE}`"
    return folder


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with TwoNodes() as nodes:
        yield nodes


def start(folder: Path, address: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "RAY_"))}
    command = [sys.executable, "-m", "genrec.cluster", *arguments, "--address", address]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(folder: Path, address: str, *arguments: str) -> tuple[int, str]:
    """The status, and what was said."""
    command = start(folder, address, *arguments)
    said, _ = command.communicate(timeout=900)
    return command.returncode, said


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "data/models/sasrec.ckpt", weights_only=True)
    found = {}

    def gather(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, Mapping):
            for key, each in value.items():
                gather(f"{name}.{key}", each)

    gather("", content)
    return found


def processes_of(folder: Path) -> dict[int, int]:
    """Of each process of a stage in a folder its number to its id, as its variables say it."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = os.readlink(process / "cwd")
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        rank = next((each for each in variables if each.startswith(b"RANK=")), None)
        if where == str(folder) and rank is not None:
            found[int(rank.removeprefix(b"RANK="))] = int(process.name)
    return found


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_two_processes_on_two_nodes_train_to_the_weights_of_one(alone: Path, together: Path) -> None:
    expected, found = weights(alone), weights(together)
    assert len(expected) > 10
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name.endswith("w_k.bias"):
            continue  # softmax takes no notice of it: its gradient is rounding alone, which Adam makes steps of
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_an_evaluation_over_shards_equals_the_whole_to_the_last_bit(alone: Path, nodes: TwoNodes) -> None:
    whole = digests(alone, ["evaluate_sasrec"])
    assert len(whole) > 2
    remove_outputs(alone, "evaluate_sasrec")
    status, said = finish(alone, nodes.address, "evaluate_sasrec", "--processes", "2")
    assert status == 0, said
    assert sorted(each.name for each in (alone / ".genrec/cluster/evaluate_sasrec").glob("[0-9].log")) == [
        "0.log",
        "1.log",
    ]
    assert digests(alone, ["evaluate_sasrec"]) == whole


@contextmanager
def training(folder: Path, nodes: TwoNodes) -> Iterator[subprocess.Popen[str]]:
    """A training that has just written a checkpoint; nothing of it runs on, whatever a test finds."""
    before = checkpoints(folder)
    command = start(folder, nodes.address, STAGE)
    try:
        wait_until(lambda: checkpoints(folder) != before, 900)
        yield command
    finally:
        for process in [*processes_of(folder).values(), *([command.pid] if command.poll() is None else [])]:
            os.kill(process, signal.SIGKILL)
        command.wait()


def checkpoints(folder: Path) -> list[int]:
    """When each was written."""
    return [file.stat().st_mtime_ns for file in folder.glob(f".genrec/scratch/{STAGE}-*/last.ckpt")]


def kill_second(folder: Path, nodes: TwoNodes) -> None:
    os.kill(processes_of(folder)[1], signal.SIGKILL)


def lose_second(folder: Path, nodes: TwoNodes) -> None:
    nodes.lose_second()


def test_what_is_lost_is_told_in_one_line_and_the_same_command_goes_on(together: Path, nodes: TwoNodes) -> None:
    whole = digests(together, [STAGE])
    remove_outputs(together, STAGE)
    # Ray chooses which process the second machine has
    for strike, who, how in ((kill_second, "1", "ended by SIGKILL"), (lose_second, "[01]", "lost with its machine")):
        with training(together, nodes) as command:
            strike(together, nodes)
            said, _ = command.communicate(timeout=120)
            assert command.returncode == 1
            wait_until(lambda: not processes_of(together), 30)
        told = said.splitlines()[-1]
        assert re.fullmatch(
            rf"error: process {who} of {STAGE}, on \S+, was {how}; run again: it goes on after its last whole epoch",
            told,
        )
        assert all(re.match(r"epoch \d+/|resuming ", line) for line in said.splitlines()[:-1]), said
        assert digests(together, [STAGE]) == {}
    nodes.add_second()
    status, said = finish(together, nodes.address, STAGE)
    assert status == 0, said
    assert f"resuming {STAGE} after epoch" in said
    assert digests(together, [STAGE]) == whole


def test_a_node_that_does_not_see_the_folder_is_refused(tmp_path: Path) -> None:
    write_params(tmp_path, SMALL, {"trainer": {"num_nodes": 2, "portable": False}})
    with TwoNodes(second=lambda address: blind_node(address, tmp_path)) as nodes:
        status, said = finish(tmp_path, nodes.address, STAGE)
    logs = tmp_path / ".genrec/cluster" / STAGE
    assert status == 1
    assert re.fullmatch(
        r"error: all machines must share the project's folder, at the same path, but \S+ does not see "
        rf"{re.escape(str(logs))}; mount it there\n",
        said,
    )
    assert not list(logs.glob("[0-9].log"))


def test_without_a_cluster_it_says_how_to_start_one(tmp_path: Path) -> None:
    write_params(tmp_path, SMALL)
    status, said = finish(tmp_path, "127.0.0.1:1", STAGE)
    assert status == 1
    assert said.startswith("error: no Ray cluster can be joined at '127.0.0.1:1'")
    assert said.endswith("by `ray start --head`, and on the others by `ray start --address <this machine>:6379`\n")
