"""The open file of an SQLite store and its clock: what each part of the store is given."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from worker.jobs.errors import LeaseLost
from worker.jobs.model import Job
from worker.ports import Lease
from worker.store.advisor import Advisor
from worker.store.sqlite import queries
from worker.store.sqlite.boot_clock import BootClock, anchored, known
from worker.store.sqlite.connections import Connections
from worker.store.sqlite.rows import job_of
from worker.store.sqlite.schema import is_current, prepare


class SqliteFile:
    """Lends connections, and keeps the time and the order of all changes. Safe for many threads; to be closed.

    Args:
        path: the database file; made when it is not there.
        clock: replaces the store's clock, in tests.
        advisor: sees every statement; it is closed with the file.

    Raises:
        OSError, ValueError: the path cannot be used.
        Transient: the database is there and does not answer.
    """

    def __init__(self, path: Path, clock: Callable[[], float] | None = None, advisor: Advisor | None = None) -> None:
        self.path = path
        self._connections = Connections(path, advisor)
        try:
            self._clock = self._opened(clock)
        except BaseException:
            self.close()
            raise

    def now(self) -> float:
        """See `JobStore.now`."""
        return self._clock()

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """See `Connections.reading`."""
        return self._connections.reading()

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """See `Connections.writing`: for what has no place in the order of changes and goes by no lease."""
        return self._connections.writing()

    @contextmanager
    def changing(self, changes: int = 0, lease: Lease | None = None) -> Iterator[tuple[sqlite3.Connection, int]]:
        """A transaction, under the lease when one is given, and the place of the first of its changes in the order of all.

        Raises:
            LeaseLost: the lease is another's, or has run out; nothing was written.
            Transient: as `Connections.writing`.
        """
        with self.writing() as connection:
            now = self.now()
            connection.execute(queries.STAMP, {"now": now, "changes": changes})
            if lease and until(connection, lease) <= now:
                raise LeaseLost("store", f"the lease {lease.name!r} (token {lease.token}) has run out")
            yield connection, connection.execute(queries.CHANGES).fetchone()[0] - changes + 1

    def jobs(self, query: str, **values: Any) -> list[Job]:
        """The jobs a query finds."""
        with self.reading() as connection:
            rows = connection.execute(query, values).fetchall()
        return [job_of(row) for row in rows]

    def ping(self) -> None:
        """See `JobStore.ping`."""
        with self.reading() as connection:
            connection.execute(queries.CHANGES).fetchone()

    def close(self) -> None:
        """See `JobStore.close`; idempotent."""
        self._connections.close()

    def _opened(self, clock: Callable[[], float] | None) -> Callable[[], float]:
        """The store's clock. Nothing is written to a file that is up to date and knows this boot: it opens while others write."""
        with self.reading() as connection:
            if is_current(connection) and (found := clock or known(connection, BootClock())):
                return found
        with self.writing() as connection:
            prepare(connection)
            return clock or anchored(connection, BootClock())


def until(connection: sqlite3.Connection, lease: Lease) -> float:
    """When the lease ends. Raises LeaseLost when it is another's."""
    owner, token, end = connection.execute(queries.LEASE, {"name": lease.name}).fetchone() or (None, 0, 0.0)
    if (owner, token) != (lease.owner, lease.token):
        raise LeaseLost("store", f"the lease {lease.name!r} (token {lease.token}) is no longer {lease.owner}'s")
    return float(end)
