"""What every request passes before it reaches a route: it is timed, answered whatever happens, its body bounded."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker import doing, logs
from worker.api.problems import ProblemResponse
from worker.jobs.requests import SELECT_MAX

log = logs.get(__name__)

BUSY_RETRY_S = 2.0
#: Values of one body: the file numbers of the longest selection, and room for everything else. As many bytes as a torrent may have, of
#: nothing but values, would take minutes and gigabytes to be read and to be refused one by one; a torrent in base64 is one value.
VALUES_MAX = SELECT_MAX + 10_000
#: Methods told apart in metrics; a caller may invent others.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Watched:
    """Measures from a request's head to the first byte of its answer; makes a fault of ours a 500 that tells nothing of the inside."""

    def __init__(self, app: ASGIApp, seconds: Histogram) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and observe once, by method, route template and status."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._observe(scope, status, began)
            await send(message)

        try:
            with doing.at(lambda: f"{_method(scope)} {_route(scope)}"):
                await self._app(scope, receive, observed)
        except Exception:
            if status:  # too late for another answer; the connection is closed
                raise
            log.exception("a request failed", method=scope["method"], route=_route(scope))
            fault = ProblemResponse(500, "a fault of the server; its log says more", fix="try again, and report it if it stays")
            await fault(scope, receive, observed)

    def _observe(self, scope: Scope, status: int, began: float) -> None:
        self._seconds.labels(_method(scope), _route(scope), str(status)).observe(time.perf_counter() - began)


class Bounded:
    """Reads a request's body before the route sees it.

    Args:
        bytes_max: of one body; 413 for more, and for more than `VALUES_MAX` values.
        seconds: for it to arrive; 408 after that.
        held_max: bytes of all bodies that are read or being dealt with; 503 beyond.
    """

    def __init__(self, app: ASGIApp, bytes_max: int, seconds: float, held_max: int) -> None:
        self._app = app
        self._bytes_max = bytes_max
        self._seconds = seconds
        self._held_max = held_max
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with the whole body."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            refusal = await self._read(receive, body)
            if refusal:
                await refusal(scope, receive, send)
            else:
                await self._app(scope, _replay(bytes(body), receive), send)
        finally:
            self._held -= len(body)

    async def _read(self, receive: Receive, body: bytearray) -> ProblemResponse | None:
        """Fill `body`; the answer when it will not arrive or is too large."""
        close = {"Connection": "close"}
        try:
            async with asyncio.timeout(self._seconds):
                more = True
                while more:
                    more = await self._read_part(receive, body)
                    if len(body) > self._bytes_max:
                        what, fix = f"body: larger than {self._bytes_max} bytes", "one job a request; for a large torrent its magnet link"
                        return ProblemResponse(413, what, field="body", fix=fix, headers=close)
                    if self._held > self._held_max:
                        what = "other large requests are being dealt with"
                        return ProblemResponse(503, what, fix="try again", retry_after_s=BUSY_RETRY_S, headers=close)
            if _values(body) > VALUES_MAX:
                what, fix = f"body: more than {VALUES_MAX} values", f"select at most {SELECT_MAX} files; one job a request"
                return ProblemResponse(413, what, field="body", fix=fix, headers=close)
        except TimeoutError:
            return ProblemResponse(408, f"the body did not arrive within {self._seconds:g} s", headers=close)
        return None

    async def _read_part(self, receive: Receive, body: bytearray) -> bool:
        """Add what came; false after the last. Raises TimeoutError when the caller is gone."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise TimeoutError
        body += message.get("body", b"")
        self._held += len(message.get("body", b""))
        return bool(message.get("more_body", False))


def _method(scope: Scope) -> str:
    return str(scope["method"]) if scope["method"] in METHODS else "other"


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "none")


def _has_body(scope: Scope) -> bool:
    return any((name == b"content-length" and value != b"0") or name == b"transfer-encoding" for name, value in scope["headers"])


def _values(body: bytearray) -> int:
    """At least as many as the values and names of a JSON document, without reading it."""
    return sum(body.count(mark) for mark in b",[{") if len(body) > VALUES_MAX else 0


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()  # what is left to come is the caller's going away
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
