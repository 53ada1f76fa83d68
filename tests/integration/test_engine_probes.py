"""How often an engine that is broken is asked, and logged in to: counted by a server that is not what it should be."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.pair import Pair
from worker.engines.registry import build_engines

#: Of an hour.
QUARTER_S = 900


class Broken:
    """Answers every request with one status; counts them by path.

    Attributes:
        status: of the answers.
    """

    def __init__(self) -> None:
        self.status = 500
        self.asked: Counter[str] = Counter()
        broken = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                broken.asked[self.path] += 1
                self.send_response(broken.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815 - the name is the library's

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def broken() -> Iterator[Broken]:
    broken = Broken()
    yield broken
    broken.close()


def a_quarter(directory: Path, address: str) -> None:
    """A quarter of an hour of an owner with the engine of this address."""
    engines = build_engines([address], directory=directory, slots=4)
    [name] = engines
    pair = Pair(directory, other=engines[name])
    pair.turn(name, times=QUARTER_S)
    pair.services.close()


@pytest.mark.parametrize(("kind", "path"), [("aria2", "/jsonrpc"), ("qbittorrent", "/api/v2/auth/login")])
def test_an_engine_that_answers_nonsense_for_a_quarter_of_an_hour_is_asked_some_hundred_times(
    tmp_path: Path, broken: Broken, kind: str, path: str
) -> None:
    a_quarter(tmp_path, f"{kind}+http://user:secret@127.0.0.1:{broken.port}")
    assert 60 < broken.asked[path] < 130
    assert sum(broken.asked.values()) == broken.asked[path]


@pytest.mark.parametrize("status", [401, 403])
def test_qbittorrent_that_refuses_a_login_is_asked_for_one_once(tmp_path: Path, broken: Broken, status: int) -> None:
    broken.status = status
    a_quarter(tmp_path, f"qbittorrent+http://user:secret@127.0.0.1:{broken.port}")
    assert dict(broken.asked) == {"/api/v2/auth/login": 1}
