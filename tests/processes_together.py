"""Functions in several processes that train together, as torchrun would start them, but met through a file.

Importing torch and Lightning takes seconds, so a server that has them imported forks the processes.
"""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PRELOADED = ["processes_together", "genrec.training.base", "genrec.models.sasrec", "genrec.models.tiger"]


def run_together(function: Callable[..., Any], folder: Path, *arguments: Any, dies: int = -1) -> list[Any]:
    """What a function returns in each of two processes; what it raises there fails the test here.

    Args:
        folder: for the file through which they meet.
        dies: the number of the process that will not live to answer, None for it; -1 for neither.
    """
    n = 2
    context = multiprocessing.get_context("forkserver")
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    context.set_forkserver_preload(PRELOADED)
    meeting = folder / f"meeting-{len(list(folder.glob('meeting-*')))}"
    ends = [context.Pipe() for _ in range(n)]
    processes = [
        context.Process(target=_run, args=(rank, n, meeting, ends[rank][1], function, arguments)) for rank in range(n)
    ]
    for process in processes:
        process.start()
    for _, there in ends:
        there.close()  # so that the end of a process is heard
    answers = [(True, None) if rank == dies else _answer(here) for rank, (here, _) in enumerate(ends)]
    for process in processes:
        process.join(300)
    wrong = [error for is_right, error in answers if not is_right]
    assert not wrong, wrong
    return [value for _, value in answers]


def _answer(here: Connection) -> tuple[bool, Any]:
    if not here.poll(300):
        raise TimeoutError("a process has not answered for five minutes")
    try:
        answer: tuple[bool, Any] = here.recv()
    except EOFError:
        return False, "a process ended without an answer"
    return answer


def _run(rank: int, n: int, meeting: Path, end: Connection, function: Callable[..., Any], arguments: Any) -> None:
    import torch

    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE=str(n), OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    torch.multiprocessing.set_sharing_strategy("file_system")
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=n)
    torch.distributed.barrier()  # one that exchanges nothing would end before the other has met it
    try:
        answer = True, function(*arguments)
    except BaseException as trouble:
        answer = False, f"process {rank}: {type(trouble).__name__}: {trouble}"
    end.send(answer)
    torch.distributed.destroy_process_group()
