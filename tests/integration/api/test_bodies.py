"""Bodies and heads of requests: what is no JSON, too large, or does not arrive."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.api.caller import connected, problem, served
from tests.integration.doors import until
from worker.api import server
from worker.ports import Services


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b'{"uri": "x"}', "text/plain"),
        (b"uri=x", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 50_000, "application/json"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(empty: tuple[httpx.Client, Services], content: bytes, kind: str) -> None:
    http, _ = empty
    answer = http.post("/v1/jobs", content=content, headers={"content-type": kind})
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)


def chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // 1024):
        yield b" " * 1024


JSON = {"content-type": "application/json"}
TOO_LARGE = server.BODY_BYTES_MAX + 1024


@pytest.mark.parametrize("content", [b" " * TOO_LARGE, chunks(TOO_LARGE)], ids=["with a length", "in chunks"])
def test_a_body_that_is_too_large_for_any_torrent_is_refused(empty: tuple[httpx.Client, Services], content: Any) -> None:
    assert "magnet link" in problem(empty[0].post("/v1/jobs", content=content, headers=JSON), 413, "body")["fix"]


def test_large_bodies_that_are_too_many_at_once_are_told_to_come_back(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODIES_BYTES_MAX", 100_000)
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n"
    with served(services) as (api, http), connected(api) as slow:
        slow.sendall(head + b" " * 80_000)
        answer = until(lambda: _refused_as_busy(http), "the slow body counts")
        problem(answer, 503)
        assert answer.headers["retry-after"]
        slow.close()
        until(lambda: not _refused_as_busy(http), "it is not counted for ever")


def _refused_as_busy(http: httpx.Client) -> httpx.Response | None:
    answer = http.post("/v1/jobs", content=b" " * 50_000, headers=JSON)
    return answer if answer.status_code == 503 else None


def test_a_body_that_does_not_arrive_is_not_waited_for(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_TIMEOUT_S", 0.2)
    with served(services) as (api, _), connected(api) as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 408 ")


def test_a_caller_who_never_ends_the_head_of_a_request_is_cut_off(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 1)
    with served(services) as (api, _), connected(api) as silent, connected(api) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: ")
        for connection in (silent, slow):
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b"", "it is closed"
