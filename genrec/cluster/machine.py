"""What happens on a machine of the cluster: a process there starts the stage's own, and watches them.

Ray hands this file's code over as it is, to machines that may not see the project; it imports nothing of it.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

GRACE = 10.0  # seconds in which processes of a stage that has failed may say so; twice where they are on other machines
MARK = "project"  # a file by which machines know that they see the same folder


class Machine:
    """The processes of a stage on one machine."""

    def problem(self, folder: str, mark: str) -> str:
        """What keeps this machine from running stages of a project; empty if nothing does.

        Args:
            folder: of the stage's logs, within the project's folder.
            mark: what the command has just written there.
        """
        file = Path(folder) / MARK
        if not file.is_file():
            return f"does not see {folder}"
        return "" if file.read_text(encoding="utf-8") == mark else f"sees another folder as {folder}"

    def free_port(self) -> int:
        """A port on which nobody listens."""
        with socket.socket() as found:
            found.bind(("", 0))
            port: int = found.getsockname()[1]
            return port

    def run(
        self, project: str, command: Sequence[str], environments: Mapping[int, Mapping[str, str]], logs: str
    ) -> list[tuple[int, int, str, str]]:
        """Run a stage's processes, and end all where one fails.

        Args:
            project: the folder in which they run.
            command: what `python -m` is told.
            environments: of each process its number to its variables, beside those of this machine.
            logs: the folder for what they say.

        Returns:
            number, status, what was said last, and the log of each that ended by itself.
        """
        files = {rank: Path(logs) / f"{rank}.log" for rank in environments}
        running = {
            rank: start(project, command, {**os.environ, **environment}, files[rank])
            for rank, environment in environments.items()
        }
        wait(list(running.values()), GRACE)
        ended = {rank: status for rank, each in running.items() if (status := each.poll()) is not None}
        end(list(running.values()))
        return [(rank, status, last_word(files[rank]), str(files[rank])) for rank, status in ended.items()]


def start(project: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Start `python -m` with a command, as a process that does not outlive this one."""
    arguments = [sys.executable, "-m", "genrec.cluster.tied", str(os.getpid()), "-m", *command]
    with log.open("wb") as stream:
        return subprocess.Popen(
            arguments, cwd=project, env=environment, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL
        )


def wait(processes: "Sequence[subprocess.Popen[bytes]]", grace: float) -> None:
    """Return when all have ended, or some seconds after one has failed."""
    failed_at = None
    while any(each.poll() is None for each in processes):
        if failed_at is None and any(each.poll() for each in processes):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() > failed_at + grace:
            return
        time.sleep(0.1)


def end(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    """End what still runs."""
    for each in processes:
        if each.poll() is None:
            each.kill()
            each.wait()


def last_word(log: Path) -> str:
    """The line that names a mistake, else the last one."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "")
