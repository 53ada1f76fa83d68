"""An engine that is a program, which a test can make stand still."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from worker.cli.servers import Server


class EngineProgram:
    """What the harnesses of real engines share."""

    engine: Any
    _server: Server

    @contextmanager
    def silent(self) -> Iterator[None]:
        self._server.process.send_signal(signal.SIGSTOP)
        self.engine.rpc_timeout_s = 0.25
        try:
            yield
        finally:
            self.engine.rpc_timeout_s = 10.0
            self._server.process.send_signal(signal.SIGCONT)
