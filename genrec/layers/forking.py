"""Other processes of this machine by forking: they have at once all that this one has imported and read."""

import os
import socket
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from torch import distributed

from genrec.errors import UserError

# who is ready waits for who has the slowest machine; a process that has ended is heard of at once
PATIENCE = timedelta(days=1)
MEETING = timedelta(seconds=15)  # of processes that have nothing to do before
HERE = "127.0.0.1"
FORKED_WITH_ALL = {"jemalloc_bg_thd"}  # of Arrow's allocator, which starts its own again in each process


def fork_others(n: int) -> bool:
    """Go on as n processes that have met over gloo; idle where this one cannot be forked.

    A process with threads cannot: in the others they are missing, and what they have locked stays locked. Neither can
    one of a system that does not tell of its threads.

    Returns:
        whether there are n processes now, of which the caller is one.

    Raises:
        UserError: one of them has ended before all have met.
    """
    if _threads() != [str(os.getpid())]:
        return False
    sys.stdout.flush()
    sys.stderr.flush()
    # listens before there is anybody who could call, so that no other program takes the port meanwhile
    listening = socket.create_server((HERE, 0))
    port = listening.getsockname()[1]
    rank = next((place for place in range(1, n) if os.fork() == 0), 0)
    if rank > 0:
        listening.close()
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE=str(n))  # as Lightning knows that they are there
    try:
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            HERE, port, n, is_master=rank == 0, timeout=MEETING, master_listen_fd=None if rank else listening.detach()
        )
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=n, timeout=PATIENCE)
    except RuntimeError as trouble:
        raise UserError(f"another of the {n} processes has ended before they had met; run again") from trouble
    return True


def _threads() -> list[str]:
    """The numbers of the threads that a fork would lose, and the main one's; none where the system tells none."""
    names = {}
    for thread in Path("/proc/self/task").glob("*"):
        with suppress(FileNotFoundError):  # it has ended meanwhile
            names[thread.name] = (thread / "comm").read_text(encoding="utf-8").strip()
    return [number for number, name in names.items() if name not in FORKED_WITH_ALL]
