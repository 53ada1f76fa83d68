"""What the works by the clock ask of the store."""

from __future__ import annotations

from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.indexes import MongoIndexes


class MongoUpkeep:
    """That part of `JobStore`."""

    _connection: MongoConnection

    def drift(self) -> tuple[str, ...]:
        """See `JobStore.drift`."""
        return MongoIndexes(self._connection).drift().lines()
