"""Leases of an SQLite store, by its own clock, which no change of a wall clock moves."""

from __future__ import annotations

from dataclasses import asdict, replace

from worker.ports import Lease
from worker.store.sqlite import queries
from worker.store.sqlite.file import SqliteFile, until


class SqliteLeases:
    """That part of `JobStore`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def acquire_lease(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        """See `JobStore.acquire_lease`. Those who ask in vain write nothing: many may ask often, and keep nobody from writing."""
        if self._is_anothers(name, owner):
            return None
        with self._file.changing() as (connection, _):
            now = self._file.now()
            holder, token, end = connection.execute(queries.LEASE, {"name": name}).fetchone() or (None, 0, 0.0)
            held = holder is not None and end > now
            if held and holder != owner:
                return None
            lease = Lease(name, owner, token if held else token + 1, now + ttl_s)
            connection.execute(queries.SET_LEASE, asdict(lease))
        return lease

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """See `JobStore.renew_lease`. One that has run out is renewed as long as nobody has taken it."""
        with self._file.changing() as (connection, _):
            end = until(connection, lease)
            renewed = replace(lease, until=max(end, self._file.now() + ttl_s))
            connection.execute(queries.SET_LEASE, asdict(renewed))
        return renewed

    def release_lease(self, lease: Lease) -> None:
        """See `JobStore.release_lease`."""
        with self._file.changing() as (connection, _):
            row = connection.execute(queries.LEASE, {"name": lease.name}).fetchone()
            if row and row[:2] == (lease.owner, lease.token):
                connection.execute(queries.SET_LEASE, asdict(lease) | {"owner": None, "until": 0.0})

    def _is_anothers(self, name: str, owner: str) -> bool:
        with self._file.reading() as connection:
            holder, _, end = connection.execute(queries.LEASE, {"name": name}).fetchone() or (None, 0, 0.0)
        return holder not in (None, owner) and end > self._file.now()
