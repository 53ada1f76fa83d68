"""What the works by the clock ask of the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from operator import itemgetter

from worker.jobs.model import Job
from worker.ports import Page, Run
from worker.store.cursor import cursor_of, seq_of
from worker.store.lines import by_name
from worker.store.sqlite import queries
from worker.store.sqlite.connections import Connections
from worker.store.sqlite.indexes import SqliteIndexes
from worker.store.sqlite.rows import job_of, run_of, to_json


class SqliteUpkeep:
    """That part of `JobStore`."""

    _connections: Connections

    def finished(self, limit: int, *, after: str | None = None) -> Page:
        """See `JobStore.finished`."""
        if limit < 1:
            return Page((), None)
        with self._connections.reading() as connection:
            values = {"after": -1 if after is None else seq_of(after), "limit": limit + 1}
            rows = connection.execute(queries.FINISHED, values).fetchall()
        more = len(rows) > limit
        return Page(tuple(map(job_of, rows[:limit])), cursor_of(rows[limit - 1][0]) if more else None)

    def remove(self, jobs: Sequence[Job]) -> int:
        """See `JobStore.remove`."""
        removed = 0
        with self._connections.writing() as connection:
            for job in jobs:
                values = {"id": job.id, "version": job.version, "state": job.state.value}
                for (seq,) in connection.execute(queries.REMOVE, values).fetchall():
                    connection.execute(queries.REMOVE_PROGRESS, {"seq": seq})
                    removed += 1
        return removed

    def latest_runs(self, names: Sequence[str], limit: int) -> dict[str, list[Run]]:
        """See `JobStore.latest_runs`."""
        with self._connections.reading() as connection:
            rows = connection.execute(queries.LATEST_RUNS, {"names": to_json(list(names)), "limit": limit}).fetchall()
        rows.sort(key=itemgetter(-1), reverse=True)  # no order of its own is asked of SQLite, which would sort in a temporary table
        return by_name(names, (run_of(row[:-1]) for row in rows))

    def drop_runs(self, name: str, keep: int, before: float | None = None) -> int:
        """See `JobStore.drop_runs`."""
        with self._connections.writing() as connection:
            return connection.execute(queries.DROP_RUNS, {"name": name, "before": before, "keep": keep}).rowcount

    def version(self) -> str:
        """See `JobStore.version`; the library of this process."""
        return f"SQLite {sqlite3.sqlite_version}"

    def drift(self) -> tuple[str, ...]:
        """See `JobStore.drift`."""
        with closing(SqliteIndexes(self._connections.path)) as indexes:
            return indexes.drift().lines()
