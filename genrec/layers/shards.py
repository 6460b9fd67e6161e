"""Passes over users that several processes share: each computes some of the batches, and all have all that was found.

The batches are those of one process, whoever computes them, so what is found is the same to the last bit.
"""

import os
from collections.abc import Callable, Iterable
from typing import TypeVar

from torch import distributed

from genrec.errors import UserError
from genrec.layers.forking import PATIENCE, fork_others
from genrec.layers.processes import n_processes, process_rank

Batch = TypeVar("Batch")
Found = TypeVar("Found")


def join_processes(devices: int, gpus: int) -> None:
    """Share the passes over users that follow: meet the processes that torchrun or `genrec.cluster` has started, else
    start others here.

    Args:
        devices: how many processes this machine has, where nobody has started any; one does all where others cannot be
            started.
        gpus: where there are some, one process does all.
    """
    if n_processes() > 1:
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    elif devices > 1 and not gpus:
        fork_others(devices)


def over_batches(work: Callable[[Batch], Found], batches: Iterable[Batch]) -> list[Found]:
    """What `work` finds for each batch, in their order.

    Args:
        work: returns tensors of the CPU, numbers, or tuples of them; the same in all processes.
        batches: the same in all processes, of which each works on every n-th.

    Raises:
        UserError: another process has ended.

    Example:
        >>> over_batches(sum, [[1, 2], [3]])
        [3, 3]
    """
    n, rank = n_processes(), process_rank()
    mine, n_batches = [], 0
    for place, batch in enumerate(batches):
        n_batches += 1
        if place % n == rank:
            mine.append(work(batch))
    if n == 1:
        return mine
    shards: list[list[Found]] = [[] for _ in range(n)]
    try:
        distributed.all_gather_object(shards, mine)
    except RuntimeError as trouble:
        raise UserError(f"another of the {n} processes that evaluate together has ended; run again") from trouble
    return [shards[place % n][place // n] for place in range(n_batches)]
