"""The server as an ASGI app: its routes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pandas as pd
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from predgen.errors import ConfigError, MissingPackageError, PredGenError, TrainingError, UnknownNameError, unknown_name
from predgen.models.model import Model
from predgen.serving.batching import Answered, Batcher
from predgen.serving.guard import Guard
from predgen.serving.keys import Keys
from predgen.serving.limits import Limits, Refused, error_json
from predgen.serving.metrics import Metrics
from predgen.serving.openapi import described
from predgen.serving.page import Page, docs_page, start_page
from predgen.serving.rows import checked_table
from predgen.serving.schemas import PredictRequest, describe_model, read_request
from predgen.version import __version__

PREDICT, MODELS, HEALTH, READY, METRICS = "/v1/predict", "/v1/models", "/health", "/ready", "/metrics"
ROUTES = ("/", "/docs", "/openapi.json", PREDICT, MODELS, HEALTH, READY, METRICS)
NDJSON = "application/x-ndjson"
# No status of HTTP; servers write it into their logs.
CLIENT_LEFT = 499


def create_app(
    models: Mapping[str, Model],
    *,
    limits: Limits | None = None,
    keys: Keys | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """Returns a server of fitted models, as any ASGI server runs it.

    Args:
        models: by the names that requests have for them.
        limits: what it takes; the defaults of `Limits` if not given.
        keys: of which a request must have one; everybody may ask if not given.
        metrics: where it counts; of its own if not given.

    Raises:
        ConfigError: there is no model.
    """
    if not models:
        raise ConfigError("Expected at least one model to serve, found none. Name one.")
    limits, keys, metrics = limits or Limits(), keys or Keys(), metrics or Metrics()
    batchers = {name: Batcher(model, limits, partial(metrics.batch, name)) for name, model in models.items()}
    metrics.follow(batchers)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for batcher in batchers.values():
            await asyncio.to_thread(batcher.close)

    app = FastAPI(
        title="PredGen", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.add_middleware(Guard, keys=keys, limits=limits, metrics=metrics, routes=ROUTES)
    for kind, answer in HANDLERS.items():
        app.add_exception_handler(kind, answer)
    facts = {"models": [describe_model(name, model) for name, model in models.items()], "limits": _shown(limits)}
    _add_answers(app, batchers, limits)
    _add_facts(app, facts, batchers, metrics, keys)
    return app


def _shown(limits: Limits) -> dict[str, Any]:
    """Returns the limits that clients can keep to."""
    return {"rows": limits.rows, "characters": limits.characters, "body_bytes": limits.body_bytes}


# ---- answers


def _add_answers(app: FastAPI, batchers: Mapping[str, Batcher], limits: Limits) -> None:
    """Adds the route of predictions."""

    async def predict(request: Request) -> Response:
        wanted, rows = read_request(await request.body(), limits)
        name = _model_name(wanted, batchers)
        batcher = batchers[name]
        wanted.asked.check(batcher.model)
        table = checked_table(batcher.model, rows, limits.characters)
        if NDJSON in request.headers.get("accept", ""):
            parts = _parts(batcher, table, wanted, limits)
            first = await _unless_left(request, anext(parts))  # what fails at once has a status of its own
            return _left() if first is None else StreamingResponse(_lines(first, parts), media_type=NDJSON)
        answers = await _unless_left(request, _answers(batcher, table, wanted, limits))
        return _left() if answers is None else JSONResponse({"model": name, "answers": answers})

    app.add_api_route(PREDICT, predict, methods=["POST"])


def _left() -> Response:
    """Returns what nobody receives, with a status that is counted."""
    return Response(status_code=CLIENT_LEFT)


def _model_name(wanted: PredictRequest, batchers: Mapping[str, Batcher]) -> str:
    """Returns the name of the model that a request is for."""
    if wanted.model is not None:
        if wanted.model not in batchers:
            raise Refused(404, "UnknownModel", str(unknown_name("model", wanted.model[:100], batchers)))
        return wanted.model
    if len(batchers) > 1:
        known = ", ".join(batchers)
        raise Refused(422, "InvalidRequest", f"Expected the name of a model in 'model', found none. Known: {known}.")
    return next(iter(batchers))


async def _answers(
    batcher: Batcher, table: pd.DataFrame, wanted: PredictRequest, limits: Limits, *, goes_on: bool = False
) -> Answered:
    """Returns the answers of a table, within the time limit."""
    future = batcher.submit(table, wanted.asked, goes_on=goes_on)
    try:
        # Leaving cancels the future, so that rows for which nobody waits are not answered.
        async with asyncio.timeout(limits.timeout_seconds):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        raise Refused(
            504,
            "TimedOut",
            f"Expected an answer within {limits.timeout_seconds:g} seconds, found none yet. Send fewer rows, or ask "
            "again later.",
        ) from None


async def _parts(
    batcher: Batcher, table: pd.DataFrame, wanted: PredictRequest, limits: Limits
) -> AsyncIterator[Answered]:
    """Yields the answers of a table batch by batch, in its order; one batch is ahead of what was sent."""
    size = batcher.model.limits.rows
    starts = range(0, len(table), size)
    ahead: asyncio.Task[Answered] | None = None
    try:
        for start in starts:
            task = ahead or asyncio.ensure_future(_answers(batcher, table[start : start + size], wanted, limits))
            answered = await task
            if start + size < len(table):
                rest = table[start + size : start + 2 * size]
                ahead = asyncio.ensure_future(_answers(batcher, rest, wanted, limits, goes_on=True))
            yield answered
    finally:
        if ahead is not None:
            ahead.cancel()


async def _lines(first: Answered, parts: AsyncIterator[Answered]) -> AsyncIterator[bytes]:
    """Yields a line of JSON for each row; after an error that came later one line with it, the last."""
    yield _as_lines(first)
    try:
        async for answers in parts:
            yield _as_lines(answers)
    except (Refused, PredGenError) as error:
        yield _as_lines([refused_of(error).to_json()])


def _as_lines(answers: Answered) -> bytes:
    return "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers).encode()


async def _unless_left(request: Request, work: Any) -> Any:
    """Returns what is worked on, or None if the client leaves before."""
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        left.cancel()


# ---- facts


def _add_facts(
    app: FastAPI, facts: dict[str, Any], batchers: Mapping[str, Batcher], metrics: Metrics, keys: Keys
) -> None:
    """Adds the routes that say what is there."""
    api = described(facts["models"], needs_key=bool(keys))
    start, docs = start_page(needs_key=bool(keys)), docs_page(api)

    async def models() -> Response:
        return JSONResponse(facts)

    async def health() -> Response:
        return JSONResponse({"status": "alive"})

    async def ready() -> Response:
        if not all(batcher.is_ready for batcher in batchers.values()):
            raise Refused(503, "NotReady", "Expected every model to answer, found one that does not. Ask again later.")
        return JSONResponse({"status": "ready"})

    async def counted() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi() -> Response:
        return JSONResponse(api)

    async def page() -> Response:
        return _html(start)

    async def documented() -> Response:
        return _html(docs)

    routes: dict[str, Callable[[], Any]] = {
        MODELS: models,
        HEALTH: health,
        READY: ready,
        METRICS: counted,
        "/openapi.json": openapi,
        "/": page,
        "/docs": documented,
    }
    for path, answer in routes.items():
        app.add_api_route(path, answer, methods=["GET", "HEAD"])


def _html(page: Page) -> Response:
    return HTMLResponse(page.html, headers={"Content-Security-Policy": page.policy})


# ---- errors

STATUS_OF_ERROR = {UnknownNameError: 422, MissingPackageError: 501, TrainingError: 503}
KIND_OF_STATUS = {404: "NotFound", 405: "MethodNotAllowed"}


def refused_of(error: Exception) -> Refused:
    """Returns an error of the package as clients see it."""
    if isinstance(error, Refused):
        return error
    status = next((status for kind, status in STATUS_OF_ERROR.items() if isinstance(error, kind)), 422)
    return Refused(status, type(error).__name__, str(error))


async def _known(_: Request, error: Exception) -> Response:
    refused = refused_of(error)
    return JSONResponse(refused.to_json(), status_code=refused.status, headers=refused.headers)


async def _of_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"Expected one of {', '.join(ROUTES)} with its method, found another. See /docs."
    return JSONResponse(
        error_json(KIND_OF_STATUS.get(error.status_code, "HttpError"), message),
        status_code=error.status_code,
        headers=error.headers,
    )


async def _unknown(_: Request, __: Exception) -> Response:
    message = "Expected an answer, found a mistake in the server; its log has more. Report it."
    return JSONResponse(error_json("InternalError", message), status_code=500)


HANDLERS: dict[Any, Any] = {Refused: _known, PredGenError: _known, HTTPException: _of_http, Exception: _unknown}
