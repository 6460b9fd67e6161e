"""A process that goes on as several, in a program of its own: those of a test would have all that pytest has opened."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")]
PROGRAM = """
import json, os, sys, threading
import torch
from genrec.layers.forking import fork_others
from genrec.layers.processes import n_processes, process_rank, summed

print("before")
read = torch.arange(4.0)
if "dies" in sys.argv:
    os.register_at_fork(after_in_child=lambda: os._exit(9))
if "arrow" in sys.argv:
    import pyarrow  # whose allocator has a thread
if "threads" in sys.argv:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
is_forked = fork_others(3)
own = read[process_rank()]
found = [is_forked, n_processes(), summed(own).item(), os.environ.get("LOCAL_RANK")]
with open(f"{sys.argv[1]}/{process_rank()}", "w") as file:
    json.dump(found, file)
"""


def start(folder, *arguments):
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PROGRAM, str(folder), *arguments]
    return subprocess.run(command, env=os.environ | one_thread, capture_output=True, text=True, timeout=120)


def run(folder, *arguments):
    ended = start(folder, *arguments)
    assert (ended.returncode, ended.stdout) == (0, "before\n"), ended.stderr
    return {int(file.name): json.loads(file.read_text()) for file in folder.iterdir()}


@pytest.mark.parametrize("beside", [[], ["arrow"]])
def test_all_go_on_with_what_the_first_has_read_and_have_met(tmp_path, beside):
    assert run(tmp_path, *beside) == {rank: [True, 3, 3.0, str(rank)] for rank in range(3)}


def test_a_process_with_threads_stays_alone(tmp_path):
    assert run(tmp_path, "threads") == {0: [False, 1, 0.0, None]}


def test_the_first_ends_where_another_has_ended_before_they_have_met(tmp_path):
    begun = time.monotonic()
    ended = start(tmp_path, "dies")
    assert "another of the 3 processes has ended before they had met; run again" in ended.stderr
    assert (ended.returncode, list(tmp_path.iterdir())) == (1, [])
    assert time.monotonic() - begun < 60
