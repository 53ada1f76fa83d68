"""What `JobStore` keeps of engines that failed: `{_id: engine, breaker}`."""

from __future__ import annotations

from pymongo import UpdateOne

from worker.breaker import Breaker, breaker_of
from worker.jobs.errors import LeaseLost
from worker.ports import Lease
from worker.store import bounded
from worker.store.mongo import queries
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.leases import MongoLeases


class MongoBreakers:
    """That part of `JobStore`."""

    def __init__(self, connection: MongoConnection, leases: MongoLeases) -> None:
        self._breakers, self._leases = MongoCollection(connection, queries.BREAKERS), leases

    def breakers(self) -> dict[str, Breaker]:
        """See `JobStore.breakers`."""
        return {row["_id"]: breaker_of(row.get("breaker")) for row in self._breakers.find({}, bounded=bounded.ENGINES)}

    def keep_breaker(self, engine: str, breaker: Breaker, lease: Lease) -> None:
        """See `JobStore.keep_breaker`. The row is made first, for an upsert must not have the lease's condition in its filter."""
        until_ms = self._leases.until_ms(lease)
        self._breakers.add([{"_id": engine}])
        where = {"_id": engine} | queries.within(until_ms)
        if not self._breakers.update([UpdateOne(where, {"$set": {"breaker": breaker.document()}})]):
            raise LeaseLost("store", f"the lease {lease.name!r} (token {lease.token}) has run out")
