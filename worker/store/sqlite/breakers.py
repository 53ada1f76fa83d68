"""What `JobStore` keeps of engines that failed."""

from __future__ import annotations

import json

from worker.breaker import Breaker, breaker_of
from worker.ports import Lease
from worker.store.sqlite import queries
from worker.store.sqlite.file import SqliteFile
from worker.store.sqlite.rows import to_json


class SqliteBreakers:
    """That part of `JobStore`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def breakers(self) -> dict[str, Breaker]:
        """See `JobStore.breakers`."""
        with self._file.reading() as connection:
            return {engine: breaker_of(json.loads(document)) for engine, document in connection.execute(queries.BREAKERS)}

    def keep_breaker(self, engine: str, breaker: Breaker, lease: Lease) -> None:
        """See `JobStore.keep_breaker`."""
        with self._file.changing(lease=lease) as (connection, _):
            connection.execute(queries.KEEP_BREAKER, {"engine": engine, "document": to_json(breaker.document())})
