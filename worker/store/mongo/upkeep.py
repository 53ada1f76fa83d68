"""What the works by the clock ask of the store."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import ASCENDING

from worker.jobs.model import Job
from worker.jobs.states import TERMINAL
from worker.ports import Page, Run
from worker.store.cursor import cursor_of, seq_of
from worker.store.lines import by_name
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.documents import Document, job_of, run_of
from worker.store.mongo.indexes import MongoIndexes
from worker.store.mongo.queries import RUNS, Pipeline

OLDEST = (("seq", ASCENDING),)
#: Lines forgotten by one call to the server.
FORGET_MAX = 1_000


def ended(behind: int) -> Document:
    """`JobStore.finished`, to be read by `OLDEST`; the server merges the states in order."""
    return {"state": {"$in": sorted(TERMINAL)}, "seq": {"$gt": behind}}


def surplus(name: str, keep: int, before: float | None) -> Pipeline:
    """The ids of lines of this name behind the newest `keep`, without the reports in them."""
    old: Pipeline = [] if before is None else [{"$match": {"started_at": {"$lt": before}}}]
    behind: Pipeline = [{"$match": {"name": name}}, {"$sort": {"seq": -1}}, {"$skip": keep}]
    return [*behind, *old, {"$limit": FORGET_MAX}, {"$project": {"_id": 1}}]


def latest(names: Sequence[str], limit: int) -> Pipeline:
    """`JobStore.latest_runs`: an arm a name, each of which reads its own lines only."""
    arms: list[Pipeline] = [[{"$match": {"name": name}}, {"$sort": {"seq": -1}}, {"$limit": limit}] for name in names]
    return [*arms[0], *({"$unionWith": {"coll": RUNS, "pipeline": arm}} for arm in arms[1:])]


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

    def latest_runs(self, names: Sequence[str], limit: int) -> dict[str, list[Run]]:
        """See `JobStore.latest_runs`."""
        return by_name(names, map(run_of, self._runs.aggregate(latest(names, limit)))) if names else {}

    def drop_runs(self, name: str, keep: int, before: float | None = None) -> int:
        """See `JobStore.drop_runs`."""
        dropped = 0
        while found := [row["_id"] for row in self._runs.aggregate(surplus(name, keep, before))]:
            self._runs.remove(found)
            dropped += len(found)
        return dropped

    def version(self) -> str:
        """See `JobStore.version`."""
        return f"MongoDB {self._connection.command('buildInfo')['version']}"

    def drift(self) -> tuple[str, ...]:
        """See `JobStore.drift`."""
        return MongoIndexes(self._connection).drift().lines()
