"""The service as a process of its own, on a free port, for the tests that talk to it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Service:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str, token: str) -> None:
        self.process, self.address, self.token = process, address, token

    def ask(self, path: str, body: Any = None, data: bytes | None = None, token: str | None = None) -> tuple[int, Any]:
        """The status and the parsed answer of a GET, or of a POST of `body` as JSON, or of `data` as it is."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {token or self.token}"}
        data = json.dumps(body).encode() if body is not None else data
        request = urllib.request.Request(f"{self.address}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, text = response.status, response.read().decode()
        except urllib.error.HTTPError as refusal:
            status, text = refusal.code, refusal.read().decode()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text


@contextmanager
def running(package: Path, *options: str, token: str = "") -> Iterator[Service]:
    """Start the service, wait until it answers, and stop it as a supervisor does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GENREC_TOKEN": token, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "genrec.recommend.service", "--package", str(package), "--port", str(port)]
    process = subprocess.Popen([*command, *options], env=environment)
    service = Service(process, f"http://127.0.0.1:{port}", token)
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                if service.ask("/health")[0] == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
