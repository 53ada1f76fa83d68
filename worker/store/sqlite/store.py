"""`JobStore` on one SQLite file, for the processes of one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worker.jobs.errors import LeaseLost
from worker.jobs.hooks import Hook
from worker.jobs.model import Job, Progress
from worker.jobs.states import State
from worker.ports import Applied, Change, Inserted, JobFilter, Lease, Page
from worker.store.advisor import Advisor
from worker.store.cursor import SEQ_MAX, cursor_of, seq_of
from worker.store.sqlite import queries
from worker.store.sqlite.boot_clock import BootClock, anchored, known
from worker.store.sqlite.breakers import SqliteBreakers
from worker.store.sqlite.connections import Connections
from worker.store.sqlite.drains import SqliteDrains
from worker.store.sqlite.leases import SqliteLeases, until
from worker.store.sqlite.rows import change_row, from_json, hook_json, job_of, row_of, to_json
from worker.store.sqlite.runs import SqliteRuns
from worker.store.sqlite.schema import is_current, prepare
from worker.store.sqlite.sums import SqliteSums
from worker.store.sqlite.torrents import SqliteTorrents
from worker.store.sqlite.upkeep import SqliteUpkeep


class SqliteStore(SqliteSums, SqliteBreakers, SqliteDrains, SqliteTorrents, SqliteLeases, SqliteRuns, SqliteUpkeep):
    """See `JobStore` for the promises. Safe for many threads; each batch is one transaction.

    Args:
        path: the database file; made when it is not there.
        clock: replaces the store's clock, in tests.
        advisor: sees every statement; it is closed with the store.

    Raises:
        OSError, ValueError: the path cannot be used.
        Transient: the database is there and does not answer.
    """

    def __init__(self, path: Path, clock: Callable[[], float] | None = None, advisor: Advisor | None = None) -> None:
        self._connections = Connections(path, advisor)
        try:
            self._clock = self._opened(clock)
        except BaseException:
            self.close()
            raise

    def _opened(self, clock: Callable[[], float] | None) -> Callable[[], float]:
        """The store's clock. Nothing is written to a file that is up to date and knows this boot: it opens while others write."""
        with self._connections.reading() as connection:
            if is_current(connection) and (found := clock or known(connection, BootClock())):
                return found
        with self._connections.writing() as connection:
            prepare(connection)
            return clock or anchored(connection, BootClock())

    def now(self) -> float:
        """See `JobStore.now`."""
        return self._clock()

    # ---- jobs ----

    def insert(self, jobs: Sequence[Job], marks: Sequence[str] | None = None) -> list[Inserted]:  # noqa: ARG002 - no answer is lost here
        """See `JobStore.insert`."""
        rows = [row_of(job) for job in jobs]
        with self._writing(len(rows)) as (connection, first):
            created = []
            for place, (row, job) in enumerate(zip(rows, jobs, strict=True), first):
                created.append(connection.execute(queries.INSERT, row | {"changed": place}).rowcount == 1)
                if created[-1] and job.progress != Progress():
                    connection.execute(queries.FIRST_PROGRESS, {"id": job.id, "document": to_json(asdict(job.progress))})
            known = _select_ids(connection, [job.id for job, new in zip(jobs, created, strict=True) if not new])
        return [Inserted(new, job if new else known[job.id]) for job, new in zip(jobs, created, strict=True)]

    def get(self, ids: Iterable[str]) -> dict[str, Job]:
        """See `JobStore.get`."""
        with self._connections.reading() as connection:
            return _select_ids(connection, list(ids))

    def apply(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Applied]:
        """See `JobStore.apply`. A change that is not one version on raises ValueError."""
        rows = [change_row(change) for change in changes]
        with self._writing(len(rows), lease) as (connection, first):
            won = [connection.execute(queries.APPLY, row | {"changed": place}).rowcount == 1 for place, row in enumerate(rows, first)]
            now = _select_ids(connection, [change.old.id for change, w in zip(changes, won, strict=True) if not w])
        return [Applied(w, change.new if w else now.get(change.old.id)) for change, w in zip(changes, won, strict=True)]

    def record_progress(self, rows: Mapping[str, Progress], lease: Lease) -> None:
        """See `JobStore.record_progress`."""
        documents = [{"id": id, "document": to_json(asdict(progress))} for id, progress in rows.items()]
        with self._writing(0, lease) as (connection, _):
            connection.executemany(queries.SET_PROGRESS, documents)

    def at_engine(self, engine: str) -> list[Job]:
        """See `JobStore.at_engine`."""
        return self._select(queries.AT_ENGINE, engine=engine)

    def needing_owner(self, engine: str, limit: int) -> list[Job]:
        """See `JobStore.needing_owner`."""
        return self._select(queries.NEEDING_OWNER, engine=engine, limit=limit)

    def in_state(self, state: State, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore.in_state`."""
        return self._select(queries.IN_STATE, state=state.value, after=after or "", limit=limit)

    def undescribed(self, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore.undescribed`."""
        return self._select(queries.UNDESCRIBED, after=after or "", limit=limit)

    def unprobed(self, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore.unprobed`."""
        return self._select(queries.UNPROBED, after=after or "", limit=limit)

    def short_of_space(self, limit: int) -> list[Job]:
        """See `JobStore.short_of_space`."""
        return self._select(queries.SHORT_OF_SPACE, limit=limit)

    def unsent(self, limit: int) -> list[Job]:
        """See `JobStore.unsent`."""
        return self._select(queries.UNSENT, limit=limit)

    def mark_sent(self, sent: Mapping[str, int]) -> None:
        """See `JobStore.mark_sent`."""
        with self._writing(0) as (connection, _):
            connection.executemany(queries.MARK_SENT, [{"id": id, "sent": version} for id, version in sent.items()])

    def unposted(self, receiver: str, now: float, limit: int) -> list[Job]:
        """See `JobStore.unposted`."""
        return self._select(queries.UNPOSTED, receiver=receiver, now=now, limit=limit)

    def mark_posted(self, marks: Mapping[str, Hook]) -> None:
        """See `JobStore.mark_posted`."""
        rows = [{"id": id, "sent": hook.sent, "failures": hook.failures, "hook": hook_json(hook)} for id, hook in marks.items()]
        with self._writing(0) as (connection, _):
            connection.executemany(queries.MARK_POSTED, rows)

    def page(self, where: JobFilter, limit: int, cursor: str | None = None) -> Page:
        """See `JobStore.page`."""
        before = SEQ_MAX if cursor is None else seq_of(cursor)
        states = None if where.states is None else frozenset(where.states)
        if states == frozenset() or limit < 1:
            return Page((), None)
        query = queries.page(states, of_user=where.user is not None)
        with self._connections.reading() as connection:
            rows = connection.execute(query, {"user": where.user, "before": before, "limit": limit + 1}).fetchall()
        more = len(rows) > limit
        return Page(tuple(map(job_of, rows[:limit])), cursor_of(rows[limit - 1][0]) if more else None)

    def holding(self, transfers: Iterable[str]) -> list[Job]:
        """See `JobStore.holding`."""
        return self._select(queries.HOLDING, ids=to_json(list(transfers)))

    def following(self, transfers: Iterable[str], limit: int) -> list[Job]:
        """See `JobStore.following`."""
        return self._select(queries.FOLLOWING, ids=to_json(list(transfers)), limit=limit)

    def sharing(self, contents: Iterable[str]) -> list[Job]:
        """See `JobStore.sharing`."""
        return self._select(queries.SHARING, ids=to_json(list(contents)))

    # ---- limits ----

    def limits(self) -> dict[str, Any]:
        """See `JobStore.limits`."""
        with self._connections.reading() as connection:
            return {name: from_json(value) for name, value in connection.execute(queries.LIMITS)}

    def set_limits(self, values: Mapping[str, Any], drop: Iterable[str] = ()) -> None:
        """See `JobStore.set_limits`."""
        with self._writing(0) as (connection, _):
            connection.executemany(queries.DROP_LIMIT, [{"name": name} for name in drop])
            connection.executemany(queries.SET_LIMIT, [{"name": name, "value": to_json(value)} for name, value in values.items()])

    # ---- connection ----

    def ping(self) -> None:
        """See `JobStore.ping`."""
        with self._connections.reading() as connection:
            connection.execute(queries.CHANGES).fetchone()

    def close(self) -> None:
        """See `JobStore.close`; idempotent."""
        self._connections.close()

    @contextmanager
    def _writing(self, changes: int, lease: Lease | None = None) -> Iterator[tuple[sqlite3.Connection, int]]:
        """A transaction, under the lease when one is given, and the place of the first of its changes in the order of all."""
        with self._connections.writing() as connection:
            now = self.now()
            connection.execute(queries.STAMP, {"now": now, "changes": changes})
            if lease and until(connection, lease) <= now:
                raise LeaseLost("store", f"the lease {lease.name!r} (token {lease.token}) has run out")
            yield connection, connection.execute(queries.CHANGES).fetchone()[0] - changes + 1

    def _select(self, query: str, **values: Any) -> list[Job]:
        with self._connections.reading() as connection:
            rows = connection.execute(query, values).fetchall()
        return [job_of(row) for row in rows]


def _select_ids(connection: sqlite3.Connection, ids: list[str]) -> dict[str, Job]:
    if not ids:
        return {}
    jobs = map(job_of, connection.execute(queries.GET, {"ids": to_json(ids)}))
    return {job.id: job for job in jobs}
