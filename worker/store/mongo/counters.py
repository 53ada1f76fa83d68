"""Numbers that give documents their order: a counter a collection, `{_id: collection, n}`."""

from __future__ import annotations

from worker.jobs.errors import Transient
from worker.store.mongo import queries
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection


class MongoCounters:
    """Hands out numbers; those of a write that fails are lost."""

    def __init__(self, connection: MongoConnection) -> None:
        self._counters = MongoCollection(connection, queries.COUNTERS)

    def take(self, counter: str, n: int) -> int:
        """The first of `n` numbers that nobody else is given. Raises Transient when the counter is gone."""
        if not n:
            return 0
        row = self._counters.change({"_id": counter}, queries.take(n))
        if row is None:
            raise Transient("store", "the database was dropped while it was open; start this process again")
        return int(row["n"]) - n + 1
