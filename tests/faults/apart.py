"""The store as one process reaches it, so that it can be taken away from that process alone where the store is a server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit

from tests.e2e.stack import Stack
from tests.tcp_proxy import TcpProxy

LOCK_S = 10.0


class StoreApart:
    """A proxy before MongoDB; SQLite has none, and is taken from all by holding its lock. A context manager.

    Attributes:
        environment: of the process it is to be taken from.
        alone: true when others keep it.
    """

    def __init__(self, stack: Stack) -> None:
        self.alone = bool(stack.store_url)
        self._file = stack.directory / "haul.db"
        self._proxy: TcpProxy | None = None
        self.environment: dict[str, str] = {}
        if self.alone:
            parts = urlsplit(stack.store_url)
            self._proxy = TcpProxy(parts.netloc)
            self.environment = {"HAUL_STORE_URL": urlunsplit(parts._replace(netloc=self._proxy.address))}

    def __enter__(self) -> StoreApart:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._proxy:
            self._proxy.close()

    @contextmanager
    def away(self) -> Iterator[None]:
        """No answer during the block."""
        if self._proxy:
            self._proxy.black_hole()
            yield
            self._proxy.heal()
            return
        with closing(sqlite3.connect(self._file, timeout=LOCK_S, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("ROLLBACK")
