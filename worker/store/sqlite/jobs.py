"""The records of jobs in an SQLite file: each batch is one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from worker.jobs.hooks import Hook
from worker.jobs.model import Job, Progress
from worker.jobs.states import State
from worker.ports import Applied, Change, Inserted, JobFilter, Lease, Page
from worker.store.cursor import SEQ_MAX, cursor_of, seq_of
from worker.store.sqlite import queries
from worker.store.sqlite.file import SqliteFile
from worker.store.sqlite.rows import change_row, hook_json, job_of, row_of, to_json


class SqliteJobs:
    """That part of `JobStore`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def insert(self, jobs: Sequence[Job], marks: Sequence[str] | None = None) -> list[Inserted]:  # noqa: ARG002 - no answer is lost here
        """See `JobStore.insert`."""
        rows = [row_of(job) for job in jobs]
        with self._file.changing(len(rows)) as (connection, first):
            created = []
            for place, (row, job) in enumerate(zip(rows, jobs, strict=True), first):
                created.append(connection.execute(queries.INSERT, row | {"changed": place}).rowcount == 1)
                if created[-1] and job.progress != Progress():
                    connection.execute(queries.FIRST_PROGRESS, {"id": job.id, "document": to_json(asdict(job.progress))})
            known = _select_ids(connection, [job.id for job, new in zip(jobs, created, strict=True) if not new])
        return [Inserted(new, job if new else known[job.id]) for job, new in zip(jobs, created, strict=True)]

    def get(self, ids: Iterable[str]) -> dict[str, Job]:
        """See `JobStore.get`."""
        with self._file.reading() as connection:
            return _select_ids(connection, list(ids))

    def apply(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Applied]:
        """See `JobStore.apply`. A change that is not one version on raises ValueError."""
        rows = [change_row(change) for change in changes]
        with self._file.changing(len(rows), lease) as (connection, first):
            won = [connection.execute(queries.APPLY, row | {"changed": place}).rowcount == 1 for place, row in enumerate(rows, first)]
            now = _select_ids(connection, [change.old.id for change, w in zip(changes, won, strict=True) if not w])
        return [Applied(w, change.new if w else now.get(change.old.id)) for change, w in zip(changes, won, strict=True)]

    def record_progress(self, rows: Mapping[str, Progress], lease: Lease) -> None:
        """See `JobStore.record_progress`."""
        documents = [{"id": id, "engine": lease.engine, "document": to_json(asdict(progress))} for id, progress in rows.items()]
        with self._file.changing(lease=lease) as (connection, _):
            connection.executemany(queries.SET_PROGRESS, documents)

    def at_engine(self, engine: str) -> list[Job]:
        """See `JobStore.at_engine`."""
        return self._file.jobs(queries.AT_ENGINE, engine=engine)

    def needing_owner(self, engine: str, limit: int) -> list[Job]:
        """See `JobStore.needing_owner`."""
        return self._file.jobs(queries.NEEDING_OWNER, engine=engine, limit=limit)

    def in_state(self, state: State, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore.in_state`."""
        return self._file.jobs(queries.IN_STATE, state=state.value, after=after or "", limit=limit)

    def undescribed(self, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore.undescribed`."""
        return self._file.jobs(queries.UNDESCRIBED, after=after or "", limit=limit)

    def unprobed(self, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore.unprobed`."""
        return self._file.jobs(queries.UNPROBED, after=after or "", limit=limit)

    def short_of_space(self, limit: int) -> list[Job]:
        """See `JobStore.short_of_space`."""
        return self._file.jobs(queries.SHORT_OF_SPACE, limit=limit)

    def unsent(self, limit: int) -> list[Job]:
        """See `JobStore.unsent`."""
        return self._file.jobs(queries.UNSENT, limit=limit)

    def mark_sent(self, sent: Mapping[str, int]) -> None:
        """See `JobStore.mark_sent`."""
        with self._file.changing() as (connection, _):
            connection.executemany(queries.MARK_SENT, [{"id": id, "sent": version} for id, version in sent.items()])

    def unposted(self, receiver: str, now: float, limit: int) -> list[Job]:
        """See `JobStore.unposted`."""
        return self._file.jobs(queries.UNPOSTED, receiver=receiver, now=now, limit=limit)

    def mark_posted(self, marks: Mapping[str, Hook]) -> None:
        """See `JobStore.mark_posted`."""
        rows = [{"id": id, "sent": hook.sent, "failures": hook.failures, "hook": hook_json(hook)} for id, hook in marks.items()]
        with self._file.changing() as (connection, _):
            connection.executemany(queries.MARK_POSTED, rows)

    def page(self, where: JobFilter, limit: int, cursor: str | None = None) -> Page:
        """See `JobStore.page`."""
        before = SEQ_MAX if cursor is None else seq_of(cursor)
        states = None if where.states is None else frozenset(where.states)
        if states == frozenset() or limit < 1:
            return Page((), None)
        query = queries.page(states, of_user=where.user is not None)
        with self._file.reading() as connection:
            rows = connection.execute(query, {"user": where.user, "before": before, "limit": limit + 1}).fetchall()
        more = len(rows) > limit
        return Page(tuple(map(job_of, rows[:limit])), cursor_of(rows[limit - 1][0]) if more else None)

    def holding(self, transfers: Iterable[str]) -> list[Job]:
        """See `JobStore.holding`."""
        return self._file.jobs(queries.HOLDING, ids=to_json(list(transfers)))

    def following(self, transfers: Iterable[str], limit: int) -> list[Job]:
        """See `JobStore.following`."""
        return self._file.jobs(queries.FOLLOWING, ids=to_json(list(transfers)), limit=limit)

    def sharing(self, contents: Iterable[str]) -> list[Job]:
        """See `JobStore.sharing`."""
        return self._file.jobs(queries.SHARING, ids=to_json(list(contents)))

    def finished(self, limit: int, *, after: str | None = None) -> Page:
        """See `JobStore.finished`."""
        if limit < 1:
            return Page((), None)
        with self._file.reading() as connection:
            values = {"after": -1 if after is None else seq_of(after), "limit": limit + 1}
            rows = connection.execute(queries.FINISHED, values).fetchall()
        more = len(rows) > limit
        return Page(tuple(map(job_of, rows[:limit])), cursor_of(rows[limit - 1][0]) if more else None)

    def remove(self, jobs: Sequence[Job]) -> int:
        """See `JobStore.remove`."""
        removed = 0
        with self._file.writing() as connection:
            for job in jobs:
                values = {"id": job.id, "version": job.version, "state": job.state.value}
                for (seq,) in connection.execute(queries.REMOVE, values).fetchall():
                    connection.execute(queries.REMOVE_PROGRESS, {"seq": seq})
                    removed += 1
        return removed


def _select_ids(connection: sqlite3.Connection, ids: list[str]) -> dict[str, Job]:
    if not ids:
        return {}
    jobs = map(job_of, connection.execute(queries.GET, {"ids": to_json(ids)}))
    return {job.id: job for job in jobs}
