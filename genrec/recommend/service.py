"""`python -m genrec.recommend.service`: the package over HTTP, with dynamic batching by litserve.

Workers hold the models and answer what waits for them together; the process that talks HTTP holds the tables alone. A
new package is taken up by both between two answers. `/docs` describes it all.
"""

import argparse
import hmac
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import litserve
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from genrec.errors import UserError
from genrec.pipeline.command import run_command
from genrec.recommend.instructions import PACKAGE
from genrec.recommend.questions import MAX_BODY, MAX_K, Question
from genrec.serving.live import Live
from genrec.serving.package import Package
from genrec.storage.files import user_path

PAGE = Path(__file__).with_name("page.html")
TOKEN = "GENREC_TOKEN"  # nosec B105
OPEN_PATHS = ("/", "/health")  # the page holds nothing; who watches needs no token
SECONDS_TO_ANSWER = 30


class RecommendApi(litserve.LitAPI):  # type: ignore[misc]
    """What a worker does: it loads the package, and answers a batch of questions at once.

    Args:
        folder: of the package.
        threads: of the processor, for each worker.
    """

    def __init__(self, folder: Path, threads: int, max_batch_size: int, batch_timeout: float) -> None:
        super().__init__(max_batch_size=max_batch_size, batch_timeout=batch_timeout, api_path="/recommend")
        self.folder, self.threads = folder, threads

    def setup(self, device: str) -> None:
        import torch

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is heard by the first process, which lets this one finish
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        torch.set_num_threads(self.threads)
        self.live = Live(self.folder, loaded_recommender)

    def decode_request(self, request: Question) -> Question:
        return request

    def batch(self, inputs: list[Question]) -> list[Question]:
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def predict(self, questions: Any) -> Any:
        """Answers in the order of the questions; a single question where batches are of one."""
        if isinstance(questions, Question):
            return self.predict([questions])[0]
        return answers(self.live.current(), questions)

    def encode_response(self, output: Any) -> Any:
        return output


def loaded_recommender(folder: Path) -> Any:
    """A recommender with all its models in memory, since the folder may go at any time."""
    from genrec.serving.recommender import POPULARITY, Recommender

    recommender = Recommender.load(folder)
    for name in (*recommender.package.models, POPULARITY):
        recommender.model(name)
    recommender.catalogue.item_ids, recommender.catalogue.user_rows  # noqa: B018
    return recommender


def answers(recommender: Any, questions: Sequence[Question]) -> list[Any]:
    """An answer for each question, or the one line that says what is wrong with it, as HTTP 400."""
    from genrec.serving.recommender import Request as Asked

    found: dict[int, Any] = {}
    sound: dict[int, Asked] = {}
    for place, question in enumerate(questions):
        try:
            recommender.package.model_named(question.model)
            sound[place] = Asked(**question.model_dump())
        except UserError as mistake:
            found[place] = JSONResponse({"error": str(mistake)}, 400)
    started = time.perf_counter()
    answered = recommender.recommend(list(sound.values()))
    seconds = round(time.perf_counter() - started, 6)
    for place, answer in zip(sound, answered, strict=True):
        extra = {"version": recommender.package.version, "batch": len(sound), "seconds": seconds}
        found[place] = {**asdict(answer), **extra}
    return [found[place] for place in range(len(questions))]


class Gate:
    """What stands before every request: the token, the limit on waiting questions, and the figures of /metrics."""

    def __init__(self, token: str, max_waiting: int) -> None:
        self.token, self.max_waiting, self.waiting = token, max_waiting, 0
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "genrec_requests", "Requests by path and status.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram("genrec_request_seconds", "Until the answer.", ["path"], registry=self.registry)
        self.in_line = Gauge("genrec_waiting", "Questions without an answer yet.", registry=self.registry)
        self.known_paths: set[str] = set()

    async def __call__(self, request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        path = request.url.path if request.url.path in self.known_paths else "other"
        started = time.perf_counter()
        response = self._refused(request) or await self._passed(request, call)
        self.requests.labels(path, str(response.status_code)).inc()
        self.seconds.labels(path).observe(time.perf_counter() - started)
        return response

    def _refused(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "")
        is_known = hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode())
        if self.token and request.url.path not in OPEN_PATHS and not is_known:
            return JSONResponse({"error": "send the header `Authorization: Bearer <token>`"}, 401)
        if request.url.path == "/recommend" and self.waiting >= self.max_waiting:
            line = f"{self.waiting} questions wait already; ask again in a second"
            return JSONResponse({"error": line}, 503, headers={"Retry-After": "1"})
        return None

    async def _passed(self, request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path != "/recommend":
            return await call(request)
        self.waiting += 1
        self.in_line.set(self.waiting)
        try:
            return await call(request)
        finally:
            self.waiting -= 1
            self.in_line.set(self.waiting)


def add_routes(app: FastAPI, live: Live[Package], gate: Gate) -> None:
    """All that needs no model: the page, items, likeness, figures; mistakes become one line."""

    def page() -> Response:
        return FileResponse(PAGE, media_type="text/html")

    def about() -> dict[str, Any]:
        package = live.current()
        return {
            "version": package.version,
            "models": [{"name": each.name, "title": each.title} for each in package.models.values()],
            "n_items": package.catalogue.n_items,
            "n_users": len(package.catalogue.user_keys),
        }

    def items(q: str = Query("", max_length=200), n: int = Query(20, ge=1, le=MAX_K)) -> list[dict[str, Any]]:
        return live.current().catalogue.find(q, n)

    def similar(item: str = Query(max_length=200), k: int = Query(10, ge=1, le=MAX_K)) -> list[dict[str, Any]]:
        catalogue = live.current().catalogue
        if item not in catalogue.item_ids:
            raise HTTPException(404, f"no item {item[:50]!r}")
        return catalogue.similar(catalogue.item_ids[item], k)

    def user(key: str = Query(max_length=200)) -> list[dict[str, Any]]:
        catalogue = live.current().catalogue
        if key not in catalogue.user_rows:
            raise HTTPException(404, f"no user {key[:50]!r}")
        history = catalogue.history_of(catalogue.user_rows[key])
        return [catalogue.described(int(item)) for item in history]

    def metrics() -> Response:
        return Response(generate_latest(gate.registry), media_type=CONTENT_TYPE_LATEST)

    own = (
        ("/", page),
        ("/about", about),
        ("/items", items),
        ("/similar", similar),
        ("/user", user),
        ("/metrics", metrics),
    )
    app.router.routes[:] = [each for each in app.router.routes if getattr(each, "path", None) != "/"]
    for path, answer in own:
        app.add_api_route(path, answer, methods=["GET"], include_in_schema=path != "/")
    gate.known_paths = {*dict(own), "/recommend", "/health", "/docs", "/openapi.json"}
    app.middleware("http")(gate)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _refuse)  # type: ignore[arg-type]


async def _refuse_invalid(request: Request, mistake: RequestValidationError) -> Response:
    first = mistake.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    line = first["msg"].removeprefix("Value error, ")
    return JSONResponse({"error": f"{place}: {line}" if place else line}, 422)


async def _refuse(request: Request, mistake: HTTPException) -> Response:
    return JSONResponse({"error": str(mistake.detail)}, mistake.status_code)


def opened(folder: Path) -> Package:
    """A package with its tables in memory."""
    package = Package.open(folder)
    package.catalogue.item_ids, package.catalogue.user_rows  # noqa: B018
    return package


def build_server(options: argparse.Namespace) -> litserve.LitServer:
    """The server, not yet started.

    Raises:
        UserError: there is no package.
    """
    package = user_path(options.package, "--package")
    live = Live(package, opened)
    api = RecommendApi(package, options.threads, options.batch, options.batch_seconds)
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=options.workers, timeout=SECONDS_TO_ANSWER,
        max_payload_size=MAX_BODY, restart_workers=True,
    )  # fmt: skip
    add_routes(server.app, live, Gate(os.environ.get(TOKEN, ""), options.max_waiting))
    return server


def stops_in_order() -> Callable[..., None]:
    """A handler of signals that takes no new questions, lets those that were asked be answered, then ends.

    litserve's own way closes the workers' line first, and what waits in it is lost. Processes that are forked inherit
    the handler and do nothing with it: the first process ends them.
    """
    first = os.getpid()
    heard: list[bool] = []

    def stop(*_: Any) -> None:
        if os.getpid() != first or heard:
            return
        heard.append(True)
        for child in multiprocessing.active_children():
            if child.name.startswith("LitServer-"):
                child.terminate()
                child.join(SECONDS_TO_ANSWER)
        raise KeyboardInterrupt

    return stop


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal comes; what was asked before is answered."""
    parser = argparse.ArgumentParser(
        prog="python -m genrec.recommend.service", description="The package over HTTP.",
        epilog=f"With {TOKEN} in the environment every request needs `Authorization: Bearer <token>`.",
    )  # fmt: skip
    parser.add_argument("--package", type=Path, default=PACKAGE, metavar="FOLDER", help=f"default: {PACKAGE}")
    parser.add_argument("--host", default="127.0.0.1", choices=["127.0.0.1", "0.0.0.0", "::"])  # nosec B104
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1, help="processes with models; default: 1")
    parser.add_argument("--threads", type=int, default=1, help="of the processor for each worker; default: 1")
    parser.add_argument("--batch", type=int, default=32, help="questions that are answered together; default: 32")
    parser.add_argument("--batch-seconds", type=float, default=0.005, help="to wait for others; default: 0.005")
    parser.add_argument("--max-waiting", type=int, default=256, help="above it 503; default: 256")
    options = parser.parse_args(arguments)

    def serve() -> None:
        server = build_server(options)
        stop = stops_in_order()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, stop)
        logging.getLogger("litserve").setLevel(logging.WARNING)
        print(f"http://127.0.0.1:{options.port} answers once the models are loaded; Ctrl+C ends it", flush=True)
        server.run(
            host=options.host, port=options.port, num_api_servers=1, generate_client_file=False, log_level="warning"
        )

    run_command(serve)


if __name__ == "__main__":
    main()
