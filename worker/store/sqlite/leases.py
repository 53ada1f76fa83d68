"""Leases of an SQLite store, by its own clock, which no change of a wall clock moves."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from dataclasses import asdict, replace

from worker.jobs.errors import LeaseLost
from worker.ports import Lease
from worker.store.sqlite import queries


class SqliteLeases:
    """That part of `JobStore`."""

    def acquire_lease(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        """See `JobStore.acquire_lease`."""
        with self._writing(0) as (connection, _):
            now = self.now()
            holder, token, end = connection.execute(queries.LEASE, {"name": name}).fetchone() or (None, 0, 0.0)
            held = holder is not None and end > now
            if held and holder != owner:
                return None
            lease = Lease(name, owner, token if held else token + 1, now + ttl_s)
            connection.execute(queries.SET_LEASE, asdict(lease))
        return lease

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """See `JobStore.renew_lease`. One that has run out is renewed as long as nobody has taken it."""
        with self._writing(0) as (connection, _):
            end = until(connection, lease)
            renewed = replace(lease, until=max(end, self.now() + ttl_s))
            connection.execute(queries.SET_LEASE, asdict(renewed))
        return renewed

    def release_lease(self, lease: Lease) -> None:
        """See `JobStore.release_lease`."""
        with self._writing(0) as (connection, _):
            row = connection.execute(queries.LEASE, {"name": lease.name}).fetchone()
            if row and row[:2] == (lease.owner, lease.token):
                connection.execute(queries.SET_LEASE, asdict(lease) | {"owner": None, "until": 0.0})

    def now(self) -> float:
        """See `JobStore.now`."""
        raise NotImplementedError

    def _writing(self, changes: int, lease: Lease | None = None) -> AbstractContextManager[tuple[sqlite3.Connection, int]]:
        raise NotImplementedError


def until(connection: sqlite3.Connection, lease: Lease) -> float:
    """When the lease ends. Raises LeaseLost when it is another's."""
    owner, token, end = connection.execute(queries.LEASE, {"name": lease.name}).fetchone() or (None, 0, 0.0)
    if (owner, token) != (lease.owner, lease.token):
        raise LeaseLost("store", f"the lease {lease.name!r} (token {lease.token}) is no longer {lease.owner}'s")
    return float(end)
