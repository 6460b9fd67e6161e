"""`python -m benchmarks.serving`: how many questions a second the service answers, how late, and whether rightly.

It starts the service on a free port of this machine, with batches of one and of many, lets 1, 8 and 64 clients ask at
once, each over one connection, and compares every answer with the list that the package gives offline. Clients and
service share the processor, so the figures are lower bounds.
"""

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from genrec.serving.recommender import Recommender, Request

CLIENTS = (1, 8, 64)
BATCHES = (1, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--package", type=Path, default=Path("data/package"))
    parser.add_argument("--models", default="sasrec,tiger")
    parser.add_argument("--requests", type=int, default=640, help="for each row of the table")
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()
    models = options.models.split(",")
    recommender = Recommender.load(options.package)
    users = recommender.catalogue.user_keys
    offline = {model: _offline(recommender, model, users, options.k) for model in models}
    print("| model | batches of | clients | requests/s | p50 ms | p95 ms | p99 ms | not 200 | wrong |")
    print("|---|---|---|---|---|---|---|---|---|")
    for batch in BATCHES:
        with _service(options.package, batch) as port:
            for model in models:
                for n_clients in CLIENTS:
                    row = _measure(port, model, users, options.k, n_clients, options.requests, offline[model])
                    print(f"| {model} | {batch} | {n_clients} | {row}", flush=True)


def _offline(recommender: Recommender, model: str, users: Sequence[str], k: int) -> dict[str, list[str]]:
    answers = recommender.recommend([Request(user=user, k=k, model=model) for user in users])
    return {user: [each.item for each in answer.recommendations] for user, answer in zip(users, answers, strict=True)}


@contextmanager
def _service(package: Path, batch: int) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "genrec.recommend.service", "--package", str(package), "--port", str(port)]
    process = subprocess.Popen([*command, "--batch", str(batch)], stdout=subprocess.DEVNULL, env=dict(os.environ))
    try:
        deadline = time.monotonic() + 120
        while not _is_up(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the service did not start")
            time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _is_up(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _measure(
    port: int, model: str, users: Sequence[str], k: int, n_clients: int, n_requests: int, offline: dict[str, list[str]]
) -> str:
    """The rest of a row of the table."""

    def client(number: int) -> list[tuple[float, int, bool]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        found = []
        for place in range(number, n_requests, n_clients):
            user = users[place % len(users)]
            body = json.dumps({"user": user, "model": model, "k": k})
            started = time.perf_counter()
            connection.request("POST", "/recommend", body, {"content-type": "application/json"})
            response = connection.getresponse()
            content: Any = json.loads(response.read())
            took = time.perf_counter() - started
            is_right = response.status == 200 and [each["item"] for each in content["recommendations"]] == offline[user]
            found.append((took, response.status, is_right))
        connection.close()
        return found

    client(n_requests - 1)  # the first search builds the tree
    started = time.perf_counter()
    with ThreadPoolExecutor(n_clients) as pool:
        found = [each for part in pool.map(client, range(n_clients)) for each in part]
    seconds = time.perf_counter() - started
    p50, p95, p99 = np.percentile([1000 * took for took, _, _ in found], [50, 95, 99])
    refused = sum(status != 200 for _, status, _ in found)
    wrong = sum(status == 200 and not is_right for _, status, is_right in found)
    return f"{len(found) / seconds:.0f} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {refused} | {wrong} |"


if __name__ == "__main__":
    main()
