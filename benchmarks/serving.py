"""`python -m benchmarks.serving`: how many questions a second the service answers, how late, and whether rightly.

It starts the service on a free port of this machine, with batches of one and of many, lets 1, 8 and 64 clients ask at
once, each over one connection, and compares every answer with the list that the package gives offline. Clients and
service share the processor, so the figures are lower bounds.

    --faults N     N questions beside which a worker is killed, 1,000 malformed questions are sent, and the package is
                   replaced by itself under load
    --mlflow       the same rows from `mlflow models serve`, which answers a frame at a time and knows no batches
    --start        only how long after its start the service answers
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from genrec.pipeline.registry import save_package
from genrec.serving.recommender import Recommender, Request

CLIENTS = (1, 8, 64)
BATCHES = (1, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--package", type=Path, default=Path("data/package"))
    parser.add_argument("--models", default="sasrec,tiger")
    parser.add_argument("--requests", type=int, default=640, help="for each row of the table")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument(
        "--faults", type=int, default=0, metavar="N", help="with so many questions, in place of the table"
    )
    parser.add_argument("--mlflow", action="store_true", help="ask `mlflow models serve`, in place of the service")
    parser.add_argument("--start", action="store_true", help="how long until the first answer, in place of the table")
    options = parser.parse_args()
    models = options.models.split(",")
    if options.start:
        seconds, of_processor = _seconds_to_start(options.package)
        print(f"answers {seconds:.1f} seconds after its start, of which the processor worked {of_processor:.1f}")
        return
    recommender = Recommender.load(options.package)
    users = recommender.catalogue.user_keys
    offline = {model: _offline(recommender, model, users, options.k) for model in models}
    if options.faults:
        _faults(options.package, models[0], users, options.k, options.faults, offline[models[0]])
        return
    print("| model | batches of | clients | requests/s | p50 ms | p95 ms | p99 ms | not 200 | wrong |")
    print("|---|---|---|---|---|---|---|---|---|")
    for batch in ("mlflow",) if options.mlflow else BATCHES:
        started = _mlflow(options.package) if options.mlflow else _service(options.package, int(batch))
        with started as port:
            for model in models:
                for n_clients in CLIENTS:
                    ask = _ask_mlflow if options.mlflow else _ask
                    row = _measure(ask, port, model, users, options.k, n_clients, options.requests, offline[model])
                    print(f"| {model} | {batch} | {n_clients} | {row}", flush=True)


def _offline(recommender: Recommender, model: str, users: Sequence[str], k: int) -> dict[str, list[str]]:
    answers = recommender.recommend([Request(user=user, k=k, model=model) for user in users])
    return {user: [each.item for each in answer.recommendations] for user, answer in zip(users, answers, strict=True)}


@contextmanager
def _service(package: Path, batch: int) -> Iterator[int]:
    port = _free_port()
    command = ["-m", "genrec.recommend.service", "--package", str(package), "--port", str(port), "--batch", str(batch)]
    with _running([sys.executable, *command], port, "/health"):
        yield port


@contextmanager
def _mlflow(package: Path) -> Iterator[int]:
    """The package as `track` saves it, served by MLflow's own server with one worker."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        save_package(package, Path(folder) / "model")
        command = ["-m", "mlflow", "models", "serve", "-m", f"{folder}/model", "--env-manager", "local"]
        with _running([sys.executable, *command, "--port", str(port), "--workers", "1"], port, "/ping"):
            yield port


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def _running(command: Sequence[str], port: int, path: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that answers, stopped as a supervisor does."""
    # MLflow calls its own server by name
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 300
        while not _is_up(port, path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the service did not start")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _seconds_to_start(package: Path) -> tuple[float, float]:
    """Until the first answer, on the clock and of the processor: where others compute too, only the second tells."""
    started, port = time.monotonic(), _free_port()
    command = ["-m", "genrec.recommend.service", "--package", str(package), "--port", str(port)]
    with _running([sys.executable, *command], port, "/health") as process:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        status, _ = _ask(connection, "nobody", None, 10)
        assert status == 200
        return time.monotonic() - started, sum(map(_processor_seconds, [process.pid, *_children(process.pid)]))


def _children(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _is_up(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


Found = tuple[float, int, bool]


def _ask(connection: http.client.HTTPConnection, user: str, model: str | None, k: int) -> tuple[int, list[str]]:
    """The status and the items of the service's answer."""
    return _post(connection, "/recommend", {"user": user, "model": model, "k": k}, "recommendations")


def _ask_mlflow(connection: http.client.HTTPConnection, user: str, model: str | None, k: int) -> tuple[int, list[str]]:
    body = {"dataframe_records": [{"user": user}], "params": {"model": model, "k": k}}
    return _post(connection, "/invocations", body, "predictions")


def _post(connection: http.client.HTTPConnection, path: str, body: Any, key: str) -> tuple[int, list[str]]:
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    content: Any = json.loads(response.read())
    return response.status, [each["item"] for each in content.get(key, [])]


def _clients(
    ask: Any, port: int, model: str, users: Sequence[str], k: int, n_clients: int, n_requests: int,
    offline: dict[str, list[str]],
) -> list[Found]:  # fmt: skip
    """Of each question how long its answer took, its status (0: the connection broke), and whether it was right."""

    def client(number: int) -> list[Found]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        found = []
        for place in range(number, n_requests, n_clients):
            user = users[place % len(users)]
            started = time.perf_counter()
            try:
                status, items = ask(connection, user, model, k)
            except (OSError, http.client.HTTPException):
                status, items = 0, []
                connection.close()
            found.append((time.perf_counter() - started, status, status == 200 and items == offline[user]))
        connection.close()
        return found

    with ThreadPoolExecutor(n_clients) as pool:
        return [each for part in pool.map(client, range(n_clients)) for each in part]


def _measure(
    ask: Any, port: int, model: str, users: Sequence[str], k: int, n_clients: int, n_requests: int,
    offline: dict[str, list[str]],
) -> str:  # fmt: skip
    """The rest of a row of the table."""
    _clients(ask, port, model, users, k, 1, 1, offline)  # the first search builds the tree
    started = time.perf_counter()
    found = _clients(ask, port, model, users, k, n_clients, n_requests, offline)
    seconds = time.perf_counter() - started
    p50, p95, p99 = np.percentile([1000 * took for took, _, _ in found], [50, 95, 99])
    refused, wrong = _counts(found)
    return f"{len(found) / seconds:.0f} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {refused} | {wrong} |"


def _counts(found: Sequence[Found]) -> tuple[int, int]:
    """How many were not answered with 200, and how many of the others were wrong."""
    refused = sum(status != 200 for _, status, _ in found)
    return refused, sum(status == 200 and not is_right for _, status, is_right in found)


def _faults(
    package: Path, model: str, users: Sequence[str], k: int, n_requests: int, offline: dict[str, list[str]]
) -> None:
    """A quarter of the questions each: untroubled, beside malformed ones, beside a swap, and beside a killed worker."""
    with tempfile.TemporaryDirectory() as folder:
        live = Path(folder) / "package"
        shutil.copytree(package, live)
        port = _free_port()
        command = ["-m", "genrec.recommend.service", "--package", str(live), "--port", str(port), "--workers", "2"]
        with _running([sys.executable, *command], port, "/health") as process:
            troubles = {
                "nothing": lambda: None,
                "1,000 malformed questions": lambda: _send_malformed(port),
                "the package replaced": lambda: _replace(live, package),
                "a worker killed": lambda: _kill_a_worker(process.pid),
            }
            print("| beside | questions | not 200 | wrong |\n|---|---|---|---|")
            for name, trouble in troubles.items():
                with ThreadPoolExecutor(1) as beside:
                    done = beside.submit(_after, 1.0, trouble)
                    found = _clients(_ask, port, model, users, k, 16, n_requests // len(troubles), offline)
                    done.result()
                refused, wrong = _counts(found)
                print(f"| {name} | {len(found)} | {refused} | {wrong} |", flush=True)


def _after(seconds: float, trouble: Any) -> None:
    time.sleep(seconds)
    trouble()


def _send_malformed(port: int) -> None:
    """All of them must be refused."""
    sound = b'{"user": "1"'
    bodies = (b"{nothing", b"\xff\xfe", b"[]", b'{"user": 3}', b'{"k": 5}', sound + b', "k": 0}', sound + b', "x": 1}')
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for place in range(1000):
        connection.request("POST", "/recommend", bodies[place % len(bodies)], {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert 400 <= response.status < 500, response.status
    connection.close()


def _replace(live: Path, package: Path) -> None:
    """As DVC does: the folder goes, and another comes."""
    shutil.rmtree(live)
    shutil.copytree(package, live.with_name("next"))
    live.with_name("next").rename(live)


def _kill_a_worker(process: int) -> None:
    """SIGKILL to the child of the service that computes; the one with the most memory is a worker."""
    memory = {child: int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in _children(process)}
    os.kill(max(memory, key=lambda child: memory[child]), signal.SIGKILL)


if __name__ == "__main__":
    main()
