"""What stands before every route: counts, headers, keys, and the size of bodies, whatever they claim."""

import asyncio
import json
import time
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from predgen.serving.keys import Keys
from predgen.serving.limits import Limits, Refused
from predgen.serving.metrics import OTHER, Metrics

# Without a key: whether the process is well, and what shows no data.
OPEN = ("/", "/docs", "/openapi.json", "/health", "/ready")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Guard:
    """Counts a request, asks for its key, and reads its body up to the limit before anything else is done.

    Args:
        app: what answers.
        keys: of which a request must have one.
        limits: of bodies, and of the time in which they come.
        metrics: where requests are counted.
        routes: the paths that have counters of their own.
    """

    def __init__(self, app: ASGIApp, *, keys: Keys, limits: Limits, metrics: Metrics, routes: Collection[str]) -> None:
        self.app = app
        self._keys, self._limits, self._metrics, self._routes = keys, limits, metrics, frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._guarded(scope, receive, counted)
        finally:
            route = scope["path"] if scope["path"] in self._routes else OTHER
            self._metrics.request(route, scope["method"], status, time.monotonic() - start)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            if scope["path"] not in OPEN and not self._keys.allow(headers.get("authorization")):
                raise Refused(
                    401,
                    "Unauthorized",
                    "Expected the header 'Authorization: Bearer KEY' with a key of this server, found none. Add it.",
                )
            body = await self._body_of(headers, receive)
        except Refused as refused:
            await send_error(refused, send)
            return
        if body is None:  # the client left
            return
        is_read = False

        async def replayed() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replayed, send)

    async def _body_of(self, headers: Headers, receive: Receive) -> bytes | None:
        """Returns a request's body; None if the client left.

        Raises:
            Refused: it is too large, by what it says or by what comes, or it does not come in time.
        """
        most = self._limits.body_bytes
        said = headers.get("content-length", "0")
        if said.isdigit() and int(said) > most:
            raise _too_large(most)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise _too_large(most)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise Refused(
                408,
                "TimedOut",
                "Expected the whole request within the server's time limit, found a part. Send it again.",
            ) from None


async def send_error(refused: Refused, send: Send) -> None:
    """Sends an error as JSON.

    Args:
        refused: the error.
        send: as ASGI has it.
    """
    body = json.dumps(refused.to_json()).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _too_large(most: int) -> Refused:
    return Refused(
        413, "BodyTooLarge", f"Expected a body of at most {most:,} bytes, found more. Send fewer rows at once."
    )
