"""A caller of the HTTP API, which is served for real on a free port, and what it is told."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx

from tests.integration.doors import DEADLINE_S
from worker.api.server import ApiServer, serve
from worker.jobs.errors import Transient
from worker.ports import Services

URI = "https://example.org/file.iso"
PROBLEM = "application/problem+json"


@contextlib.contextmanager
def served(services: Services, **options: Any) -> Iterator[tuple[ApiServer, httpx.Client]]:
    api = serve(services, host="127.0.0.1", port=0, **options)
    api.start()
    try:
        with httpx.Client(base_url=api.url, timeout=DEADLINE_S, trust_env=False) as client:
            yield api, client
    finally:
        api.stop()


def problem(answer: httpx.Response, status: int, field: str | None = None) -> dict[str, Any]:
    """The problem document of an answer, which has this status and blames this field."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    document: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail"} <= set(document)
    assert document["status"] == status
    assert field is None or (document["field"], bool(document["fix"])) == (field, True), document
    return document


def add(http: httpx.Client, **spec: Any) -> httpx.Response:
    return http.post("/v1/jobs", json={"uri": URI, "user": "ann", **spec})


class Stalling:
    """A store that is there but does not answer some of its calls."""

    def __init__(self, store: Any, calls: set[str], error: Exception) -> None:
        self._store, self._calls, self._error = store, calls, error

    def __getattr__(self, name: str) -> Any:
        if name not in self._calls:
            return getattr(self._store, name)

        def fail(*_: Any, **__: Any) -> Any:
            raise self._error

        return fail


def stalling(services: Services, *calls: str, error: Exception | None = None) -> Services:
    store: Any = Stalling(services.store, set(calls), error or Transient("store", "did not answer"))
    return replace(services, store=store)


@contextlib.contextmanager
def connected(api: ApiServer) -> Iterator[socket.socket]:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as connection:
        yield connection
