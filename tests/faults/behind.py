"""Engines that are reached through a proxy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.processes import Worker
from tests.e2e.stack import Stack
from tests.tcp_proxy import TcpProxy


class Behind(Stack):
    """A stack whose engines are reached through a proxy."""

    def __init__(self, directory: Path, engines: Sequence[str]) -> None:
        super().__init__(directory, engines=engines)
        self.proxies: dict[str, TcpProxy] = {}

    def work(self, *arguments: Any, **environment: Any) -> Worker:
        """See `Stack.work`."""
        if "qbittorrent" in self.engines:  # it looks at the port it is called by
            self.qbittorrent.ask("app/setPreferences", json=json.dumps({"web_ui_host_header_validation_enabled": False}))
        return super().work(*arguments, **environment)

    def environment(self) -> dict[str, str]:
        """See `Stack.environment`."""
        found = super().environment()
        addresses = found["HAUL_ENGINES"]
        for name, engine in self.engines.items():
            address = engine.server.url.rpartition("@")[2].partition("/")[0]
            if name not in self.proxies:
                self.proxies[name] = self._held.enter_context(TcpProxy(address))
            addresses = addresses.replace(address, self.proxies[name].address)
        return {**found, "HAUL_ENGINES": addresses}
