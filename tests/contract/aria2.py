"""A real aria2c for one test: it can be killed, stopped, and started again under its address."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.origin import Origin
from worker.cli.servers import start_aria2c
from worker.engines.aria2 import Aria2Engine
from worker.ports import Order


class Aria2Harness:
    """One aria2c of its own, that can be killed, stopped and started again under its address."""

    def __init__(self, program: Path, base: Path, origin: Origin, *, rpc_timeout_s: float = 10.0) -> None:
        self.origin = origin
        self.downloads = base / "downloads"
        self.downloads.mkdir()
        self._program, self._base = program, base
        self._server = start_aria2c(program, base, self.downloads, slots=300)
        parts = urlsplit(self._server.url)
        self.port, self.secret = int(parts.port or 0), str(parts.password)
        self.engine = Aria2Engine("aria2", f"http://127.0.0.1:{self.port}/jsonrpc", self.secret, str(self.downloads), 300, rpc_timeout_s)

    def url(self, path: str) -> str:
        return path if path.startswith("magnet:") else self.origin.url(path)

    def fetched(self, order: Order) -> int:
        return self.origin.bytes_served[urlsplit(order.source.uri).path]

    def step(self) -> None:
        self.origin.stopping.wait(0.01)

    def call(self, method: str, *params: Any) -> Any:
        """aria2 itself, past the adapter."""
        return self.engine._rpc.multicall([(method, list(params))], self.engine._deadline())[0]

    def kill(self) -> None:
        self._server.process.kill()
        self._server.process.wait()

    def restart(self, *, keep: bool) -> None:
        self.call("aria2.saveSession")
        self.kill()
        if not keep:
            (self._base / "aria2.session").write_text("")
        self._server = start_aria2c(self._program, self._base, self.downloads, slots=300, port=self.port, secret=self.secret)

    @contextmanager
    def silent(self) -> Iterator[None]:
        self._server.process.send_signal(signal.SIGSTOP)
        self.engine.rpc_timeout_s = 0.25
        try:
            yield
        finally:
            self.engine.rpc_timeout_s = 10.0
            self._server.process.send_signal(signal.SIGCONT)

    def bad_uri(self) -> str:
        return "magnet:?xt=urn:btih:zz"

    def break_source(self, order: Order) -> None:
        """The origin answers 404 by itself."""
