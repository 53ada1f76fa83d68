"""The records of jobs in a MongoDB: a job is one document and a change to it one write.

What a batch of writes did is told by the server's answer when all of them did it, and otherwise, or when the answer was lost, by the
mark that each left in its document (`ops`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bson import ObjectId

from worker.jobs.errors import Transient
from worker.jobs.hooks import Hook
from worker.jobs.model import Job, Progress
from worker.jobs.states import State
from worker.ports import Applied, Change, Inserted, JobFilter, Lease, Page
from worker.store import bounded
from worker.store.cursor import SEQ_MAX, cursor_of, seq_of
from worker.store.mongo import queries
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.connection import MongoConnection
from worker.store.mongo.counters import MongoCounters
from worker.store.mongo.documents import Document, check_follows, firsts, job_of, new_document
from worker.store.mongo.leases import MongoLeases


class MongoJobs:
    """That part of `JobStore`.

    A lease is looked at twice. It is read before a write, which refuses a token that was replaced; and every update of the
    write carries the lease's end, which the server compares with its own clock, so that a holder that was stopped between
    the two, for however long, changes nothing once another may hold the lease. A batch that is overtaken by the end of its
    lease is cut off where it stands: `LeaseLost` is raised, and what was changed before stays.
    """

    def __init__(self, connection: MongoConnection, leases: MongoLeases, counters: MongoCounters) -> None:
        self._jobs = MongoCollection(connection, queries.JOBS)
        self._leases, self._counters = leases, counters

    def insert(self, jobs: Sequence[Job], marks: Sequence[str] | None = None) -> list[Inserted]:
        """See `JobStore.insert`."""
        ops = [ObjectId(mark) for mark in marks] if marks else [ObjectId() for _ in jobs]
        fresh = firsts(zip(jobs, ops, strict=True), lambda pair: pair[0].id)
        place = self._counters.take(queries.JOBS, len(fresh))
        rows = {job.id: new_document(job, at, op) for at, (job, op) in enumerate(fresh.values(), place)}
        clashed = self._jobs.add(list(rows.values()))
        known = self._jobs.of_ids(clashed)
        if len(known) < len(clashed):
            raise Transient("store", "a job was removed while it was recorded again")
        rows |= known
        created = [op in rows[job.id]["ops"] for job, op in zip(jobs, ops, strict=True)]
        return [Inserted(new, job if new else job_of(rows[job.id])) for job, new in zip(jobs, created, strict=True)]

    def get(self, ids: Iterable[str]) -> dict[str, Job]:
        """See `JobStore.get`."""
        return {id: job_of(document) for id, document in self._jobs.of_ids(list(ids)).items()}

    def apply(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Applied]:
        """See `JobStore.apply`. A change that is not one version on raises ValueError."""
        for change in changes:
            check_follows(change)
        until_ms = self._leases.until_ms(lease) if lease else None
        place = self._counters.take(queries.JOBS, len(changes))
        applied: dict[int, Applied] = {}
        for batch in _rounds(changes):
            applied |= self._apply_round(batch, place, until_ms)
        if lease and not all(answer.won for answer in applied.values()):
            self._leases.until_ms(lease)
        return [applied[number] for number in range(len(changes))]

    def record_progress(self, rows: Mapping[str, Progress], lease: Lease) -> None:
        """See `JobStore.record_progress`."""
        until_ms, engine = self._leases.until_ms(lease), lease.engine
        if self._jobs.update([queries.set_progress(id, progress, until_ms, engine) for id, progress in rows.items()]) < len(rows):
            self._leases.until_ms(lease)

    def at_engine(self, engine: str) -> list[Job]:
        """See `JobStore.at_engine`."""
        return self._some(queries.at_engine(engine), bounded=bounded.AT_ENGINE)

    def needing_owner(self, engine: str, limit: int) -> list[Job]:
        """See `JobStore.needing_owner`."""
        return self._some(queries.needing_owner(engine), queries.OLDEST_CHANGE, limit)

    def in_state(self, state: State, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore.in_state`."""
        return self._some(queries.in_state(state, after), queries.BY_ID, limit)

    def undescribed(self, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore.undescribed`."""
        return self._some(queries.undescribed(after), queries.BY_ID, limit)

    def unprobed(self, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore.unprobed`."""
        return self._some(queries.unprobed(after), queries.BY_ID, limit)

    def short_of_space(self, limit: int) -> list[Job]:
        """See `JobStore.short_of_space`."""
        return self._some(queries.short_of_space(), queries.SHORT_LONGEST, limit)

    def unsent(self, limit: int) -> list[Job]:
        """See `JobStore.unsent`."""
        return self._some(queries.unsent(), queries.OLDEST_CHANGE, limit)

    def mark_sent(self, sent: Mapping[str, int]) -> None:
        """See `JobStore.mark_sent`."""
        self._jobs.update([queries.mark_sent(id, version) for id, version in sent.items()])

    def unposted(self, receiver: str, now: float, limit: int) -> list[Job]:
        """See `JobStore.unposted`."""
        return self._some(queries.unposted(receiver, now), queries.DUE, limit)

    def mark_posted(self, marks: Mapping[str, Hook]) -> None:
        """See `JobStore.mark_posted`."""
        self._jobs.update([queries.mark_posted(id, hook) for id, hook in marks.items()])

    def page(self, where: JobFilter, limit: int, cursor: str | None = None) -> Page:
        """See `JobStore.page`."""
        before = SEQ_MAX if cursor is None else seq_of(cursor)
        if limit < 1:
            return Page((), None)
        rows = self._jobs.find(queries.page(where, before), queries.NEWEST, limit + 1)
        more = len(rows) > limit
        return Page(tuple(map(job_of, rows[:limit])), cursor_of(rows[limit - 1]["seq"]) if more else None)

    def holding(self, transfers: Iterable[str]) -> list[Job]:
        """See `JobStore.holding`."""
        return self._some(queries.holding(list(transfers)), bounded=bounded.HOLDERS)

    def following(self, transfers: Iterable[str], limit: int) -> list[Job]:
        """See `JobStore.following`."""
        return self._some(queries.following(list(transfers)), limit=limit)

    def sharing(self, contents: Iterable[str]) -> list[Job]:
        """See `JobStore.sharing`."""
        return self._some(queries.sharing(list(contents)), bounded=bounded.HOLDERS)

    def finished(self, limit: int, *, after: str | None = None) -> Page:
        """See `JobStore.finished`."""
        behind = -1 if after is None else seq_of(after)
        rows = self._jobs.find(queries.ended(behind), queries.OLDEST, limit + 1) if limit > 0 else []
        more = len(rows) > limit
        return Page(tuple(map(job_of, rows[:limit])), cursor_of(rows[limit - 1]["seq"]) if more else None)

    def remove(self, jobs: Sequence[Job]) -> int:
        """See `JobStore.remove`."""
        told: Document = {"untold": {"$exists": False}, "unposted": {"$exists": False}}
        named = [{"_id": job.id, "version": job.version, "state": job.state.value, **told} for job in jobs if job.terminal]
        return self._jobs.delete(named)

    def _apply_round(self, batch: Mapping[int, Change], place: int, until_ms: int | None) -> dict[int, Applied]:
        """Changes of one job each, by their number in the whole batch."""
        updates = [queries.apply(change, place + number, ObjectId(change.mark), until_ms) for number, change in batch.items()]
        if self._jobs.update(updates) == len(batch):
            return {number: Applied(True, change.new) for number, change in batch.items()}
        now = self._jobs.of_ids([change.old.id for change in batch.values()])
        return {number: _judged(change, now.get(change.old.id)) for number, change in batch.items()}

    def _some(self, where: Document, order: queries.Order | None = None, limit: int | None = None, **why: str) -> list[Job]:
        return [job_of(row) for row in self._jobs.find(where, order, limit, **why)]


def _rounds(changes: Sequence[Change]) -> list[dict[int, Change]]:
    """The changes by their number, in batches in which no job occurs twice, a job's own in their order."""
    rounds: list[dict[int, Change]] = []
    seen: dict[str, int] = {}
    for number, change in enumerate(changes):
        turn = seen.get(change.old.id, 0)
        seen[change.old.id] = turn + 1
        if turn == len(rounds):
            rounds.append({})
        rounds[turn][number] = change
    return rounds


def _judged(change: Change, document: Document | None) -> Applied:
    if document is None:
        return Applied(False, None)
    won = ObjectId(change.mark) in document["ops"]
    return Applied(won, change.new if won else job_of(document))
