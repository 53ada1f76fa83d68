"""What the works by the clock ask of the store."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import ASCENDING

from worker.jobs.model import Job
from worker.jobs.states import TERMINAL
from worker.ports import Page
from worker.store.cursor import cursor_of, seq_of
from worker.store.mongo import queries
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.documents import Document, job_of
from worker.store.mongo.indexes import MongoIndexes

OLDEST = (("seq", ASCENDING),)


def ended(behind: int) -> Document:
    """`JobStore.finished`, to be read by `OLDEST`; the server merges the states in order."""
    return {"state": {"$in": sorted(TERMINAL)}, "seq": {"$gt": behind}}


class MongoUpkeep:
    """That part of `JobStore`."""

    _connection: MongoConnection
    _jobs: MongoCollection
    _runs: MongoCollection

    def finished(self, limit: int, *, after: str | None = None) -> Page:
        """See `JobStore.finished`."""
        behind = -1 if after is None else seq_of(after)
        rows = self._jobs.find(ended(behind), OLDEST, limit + 1) if limit > 0 else []
        more = len(rows) > limit
        return Page(tuple(map(job_of, rows[:limit])), cursor_of(rows[limit - 1]["seq"]) if more else None)

    def remove(self, jobs: Sequence[Job]) -> int:
        """See `JobStore.remove`."""
        told: Document = {"untold": {"$exists": False}, "unposted": {"$exists": False}}
        named = [{"_id": job.id, "version": job.version, "state": job.state.value, **told} for job in jobs if job.terminal]
        return self._jobs.delete(named)

    def drop_runs(self, name: str, before: float, keep: int) -> int:
        """See `JobStore.drop_runs`."""
        kept = self._runs.find(queries.runs(name), queries.NEWEST, keep)
        if len(kept) < keep:
            return 0
        return self._runs.delete([{"name": name, "seq": {"$lt": kept[-1]["seq"]}, "started_at": {"$lt": before}}])

    def drift(self) -> tuple[str, ...]:
        """See `JobStore.drift`."""
        return MongoIndexes(self._connection).drift().lines()
