"""Leases of a MongoDB store: a document each, `{_id: name, owner, token, until_ms}`, by the clock of the server."""

from __future__ import annotations

from dataclasses import replace

from worker.jobs.errors import LeaseLost
from worker.ports import Lease
from worker.store.mongo import queries
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.documents import Document


class MongoLeases:
    """That part of `JobStore`."""

    def __init__(self, connection: MongoConnection) -> None:
        self._leases = MongoCollection(connection, queries.LEASES)

    def acquire_lease(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        """See `JobStore.acquire_lease`."""
        row = self._leases.change({"_id": name}, queries.acquire(owner, _ms(ttl_s)), upsert=True)
        return _lease(row) if row and row["owner"] == owner else None

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """See `JobStore.renew_lease`. One that has run out is renewed as long as nobody has taken it."""
        row = self._leases.change(queries.held(lease), queries.renew(_ms(ttl_s)))
        if row is None:
            raise _lost(lease)
        return replace(lease, until=_lease(row).until)

    def release_lease(self, lease: Lease) -> None:
        """See `JobStore.release_lease`."""
        self._leases.change(queries.held(lease), queries.RELEASE)

    def until_ms(self, lease: Lease) -> int:
        """When the lease ends. Raises LeaseLost when it is another's or has run out."""
        for row in self._leases.find(queries.current(lease)):
            return int(row["until_ms"])
        raise _lost(lease)


def _lease(row: Document) -> Lease:
    return Lease(row["_id"], row["owner"], int(row["token"]), row["until_ms"] / 1000)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost("store", f"the lease {lease.name!r} (token {lease.token}) has run out, or is no longer {lease.owner}'s")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
