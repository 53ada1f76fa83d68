"""Leases of a MongoDB store: a document each, `{_id: name, owner, token, until_ms, ttl_ms}`, by the clock of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from worker.jobs.errors import LeaseLost
from worker.ports import Lease
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.documents import Document
from worker.store.mongo.queries import LEASES, NOW_MS, Pipeline


def acquire(owner: str, ttl_ms: int) -> Pipeline:
    """Take the lease when it is over or nobody's, prolong it when it is the owner's, leave it alone otherwise.

    One that lasts longer than anybody asked for (`ttl_ms`) is from before the server's clock was set back. It is cut to what
    was asked for, from now on: else nobody could follow a dead holder until the clock has come as far again.

    The decision stands in the update, not in the filter: an upsert must not have `$expr` there.
    """
    mine: Document = {"$eq": ["$owner", {"$literal": owner}]}
    over: Document = {"$lte": [{"$ifNull": ["$until_ms", 0]}, NOW_MS]}
    until: Document = {"$add": [NOW_MS, ttl_ms]}
    later: Document = {"$max": ["$until_ms", until]}
    longest: Document = {"$max": ["$ttl_ms", ttl_ms]}
    cut: Document = {"$min": ["$until_ms", {"$add": [NOW_MS, {"$ifNull": ["$ttl_ms", "$until_ms"]}]}]}
    return [
        {
            "$set": {
                "owner": {"$cond": [over, {"$literal": owner}, "$owner"]},
                "token": {"$cond": [over, {"$add": [{"$ifNull": ["$token", 0]}, 1]}, "$token"]},
                "until_ms": {"$cond": [over, until, {"$cond": [mine, later, cut]}]},
                "ttl_ms": {"$cond": [over, ttl_ms, {"$cond": [mine, longest, "$ttl_ms"]}]},
            }
        }
    ]


def renew(ttl_ms: int) -> Pipeline:
    """A later end."""
    return [{"$set": {"until_ms": {"$max": ["$until_ms", {"$add": [NOW_MS, ttl_ms]}]}, "ttl_ms": {"$max": ["$ttl_ms", ttl_ms]}}}]


#: Nobody's; the token stays, so that it never comes back.
RELEASE: Mapping[str, Any] = {"$set": {"owner": None, "until_ms": 0}}


def held(lease: Lease) -> Document:
    """The lease under this token, run out or not."""
    return {"_id": lease.name, "owner": lease.owner, "token": lease.token}


def current(lease: Lease) -> Document:
    """The lease under this token, unless it has run out."""
    return held(lease) | {"$expr": {"$lt": [NOW_MS, "$until_ms"]}}


class MongoLeases:
    """That part of `JobStore`."""

    def __init__(self, connection: MongoConnection) -> None:
        self._leases = MongoCollection(connection, LEASES)

    def acquire_lease(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        """See `JobStore.acquire_lease`."""
        row = self._leases.change({"_id": name}, acquire(owner, _ms(ttl_s)), upsert=True)
        return _lease(row) if row and row["owner"] == owner else None

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """See `JobStore.renew_lease`. One that has run out is renewed as long as nobody has taken it."""
        row = self._leases.change(held(lease), renew(_ms(ttl_s)))
        if row is None:
            raise _lost(lease)
        return replace(lease, until=_lease(row).until)

    def release_lease(self, lease: Lease) -> None:
        """See `JobStore.release_lease`."""
        self._leases.change(held(lease), RELEASE)

    def until_ms(self, lease: Lease) -> int:
        """When the lease ends. Raises LeaseLost when it is another's or has run out."""
        for row in self._leases.find(current(lease)):
            return int(row["until_ms"])
        raise _lost(lease)


def _lease(row: Document) -> Lease:
    return Lease(row["_id"], row["owner"], int(row["token"]), row["until_ms"] / 1000)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost("store", f"the lease {lease.name!r} (token {lease.token}) has run out, or is no longer {lease.owner}'s")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
