"""What a Redis or Valkey says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from worker.coordination.connection import Connection
from worker.coordination.memory import Memory
from worker.jobs.errors import Transient
from worker.ports import ServerFacts


class RedisFacts:
    """That part of `ports.Coordinator`."""

    def __init__(self, server: Connection) -> None:
        self._server = server

    def facts(self) -> ServerFacts:
        """See `ports.Coordinator`."""
        with self._server.answers():
            told: Mapping[str, str | int] = self._server.commands.info()
        try:
            # Valkey names a version of Redis beside its own, for clients that know no other.
            version = f"Valkey {told['valkey_version']}" if "valkey_version" in told else f"Redis {told['redis_version']}"
            return ServerFacts(version, int(told["connected_clients"]), int(told["used_memory"]))
        except KeyError as missing:
            raise Transient("redis", f"INFO does not tell {missing}") from None


class FakeFacts:
    """The same in memory."""

    def __init__(self, opened: Callable[[], AbstractContextManager[Memory]]) -> None:
        self._open = opened

    def facts(self) -> ServerFacts:
        """See `ports.Coordinator`."""
        with self._open():
            return ServerFacts("memory 1", 1, 1)
