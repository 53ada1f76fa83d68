"""What `JobStore` keeps of engines that failed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import AbstractContextManager

from worker.breaker import Breaker, breaker_of
from worker.ports import Lease
from worker.store.sqlite import queries
from worker.store.sqlite.connections import Connections
from worker.store.sqlite.rows import to_json


class SqliteBreakers:
    """That part of `JobStore`."""

    _connections: Connections

    def breakers(self) -> dict[str, Breaker]:
        """See `JobStore.breakers`."""
        with self._connections.reading() as connection:
            return {engine: breaker_of(json.loads(document)) for engine, document in connection.execute(queries.BREAKERS)}

    def keep_breaker(self, engine: str, breaker: Breaker, lease: Lease) -> None:
        """See `JobStore.keep_breaker`."""
        with self._writing(0, lease) as (connection, _):
            connection.execute(queries.KEEP_BREAKER, {"engine": engine, "document": to_json(breaker.document())})

    def _writing(self, changes: int, lease: Lease | None = None) -> AbstractContextManager[tuple[sqlite3.Connection, int]]:
        raise NotImplementedError
