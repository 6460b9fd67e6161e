"""A Ray cluster of two nodes, each with one CPU, whose processes all run on this machine."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ROOM = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
TRIES = 6  # starts of a node: Ray gives its helpers 15 seconds, which they may not have on a busy machine


class TwoNodes:
    """The cluster, within a `with`.

    Args:
        second: starts the second node at a cluster's address, in place of Ray's own way.

    Attributes:
        address: of the cluster.
    """

    def __init__(self, second: Callable[[str], subprocess.Popen[bytes]] | None = None) -> None:
        self._start_second = second

    def __enter__(self) -> "TwoNodes":
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        self._cluster, self._own = Cluster(), None
        self._add(include_dashboard=False, include_log_monitor=False)
        self.address: str = self._cluster.address
        if self._start_second is None:
            self.add_second()
        else:
            self._own = self._start_second(self.address)
        return self

    def __exit__(self, *problem: object) -> None:
        if self._own is not None:
            self._own.terminate()
            self._own.wait()
        self._cluster.shutdown()

    def add_second(self) -> None:
        self._second = self._add()
        self._cluster.wait_for_nodes()

    def lose_second(self) -> None:
        """End all processes of the second node at once, as a machine that goes off does."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def _add(self, **options: bool) -> Any:
        for left in reversed(range(TRIES)):
            try:
                return self._cluster.add_node(**ROOM, **ports(), **options)
            except Exception as trouble:  # Ray raises no other
                if not left or "timed out during startup" not in str(trouble):
                    raise
                if options:  # a head that has not started has left its store behind
                    self._cluster.shutdown()
        raise AssertionError("unreachable")


def ports() -> dict[str, int]:
    """Free ones for the helpers of a node, for which it then need not wait."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    with_sockets = [socket.create_server(("", 0)) for _ in names]
    found = {name: each.getsockname()[1] for name, each in zip(names, with_sockets, strict=True)}
    for each in with_sockets:
        each.close()
    return found


def blind_node(address: str, folder: Path) -> subprocess.Popen[bytes]:
    """A node that joins the cluster and sees another, empty folder in the place of one: it has mounts of its own."""
    unshare = ["unshare", "--mount", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "mount -t tmpfs none /mnt"], check=False).returncode
    ):
        pytest.skip("only root may give a process mounts of its own")
    command = f"mount -t tmpfs none '{folder}' && exec '{sys.executable}' -m ray.scripts.scripts start --block "
    command += f"--address={address} --num-cpus=1 --object-store-memory={ROOM['object_store_memory']} "
    options = {
        name.replace("_", "-").replace("metrics-agent", "dashboard-agent-grpc"): port for name, port in ports().items()
    }
    command += " ".join(f"--{name}={port}" for name, port in options.items())
    for _ in range(TRIES):
        node = subprocess.Popen([*unshare, command], stdout=subprocess.DEVNULL)
        if joined(address, node):
            return node
    raise AssertionError("the node has not started")


def joined(address: str, node: subprocess.Popen[bytes]) -> bool:
    """Whether a second node has become part of a cluster; False where it has ended instead."""
    from ray._raylet import GcsClient

    while node.poll() is None:
        with suppress(RuntimeError):
            known = GcsClient(address=address).get_all_node_info().values()
            if sum(each.state == 0 for each in known) == 2:
                return True
        time.sleep(0.5)
    return False
