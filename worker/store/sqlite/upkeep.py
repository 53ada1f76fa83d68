"""What the works by the clock ask of the store."""

from __future__ import annotations

from contextlib import closing

from worker.store.sqlite.connections import Connections
from worker.store.sqlite.indexes import SqliteIndexes


class SqliteUpkeep:
    """That part of `JobStore`."""

    _connections: Connections

    def drift(self) -> tuple[str, ...]:
        """See `JobStore.drift`."""
        with closing(SqliteIndexes(self._connections.path)) as indexes:
            return indexes.drift().lines()
