"""A store whose writes are put together: what many threads write at once goes out in few calls, and each gets its own answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from worker.jobs.hooks import Hook
from worker.jobs.model import Job, Progress
from worker.jobs.states import State
from worker.metrics import Metrics
from worker.ports import Applied, Change, Inserted, JobFilter, JobStore, Lease, Page, Promised, Usage, new_mark
from worker.store.held import HeldProgress, Holding, Key, key_of
from worker.store.lane import Bounds, Lane
from worker.store.meter import Meter
from worker.store.wrapped import WrappedStore

T = TypeVar("T")
A = TypeVar("A")

#: What a record takes beside its texts, and each line of its timeline.
RECORD_BYTES, LINE_BYTES = 1_000, 200
MARK_BYTES = 200
#: How long `close` waits for writes under way.
CLOSE_S = 10.0


class BatchingStore(WrappedStore):
    """See `JobStore` for the promises, which are the inner store's, but for progress (`held`). Safe for many threads.

    Records, changes, and marks of what was told are written by the thread that asks, at once when no other writes the like; what is
    asked for meanwhile is one batch. Changes under a lease go with those of the same lease: a lost one fails its own alone. A change of
    a job is written after the progress that was recorded before it.
    """

    def __init__(self, inner: JobStore, metrics: Metrics, *, bounds: Bounds | None = None, holding: Holding | None = None) -> None:
        super().__init__(inner)
        self._bounds = bounds or Bounds()
        self._meters = {kind: Meter(metrics, kind) for kind in ("insert", "apply", "sent", "posted", "progress")}
        self._inserts: Lane[tuple[Job, str], Inserted] = self._lane("insert", self._insert_all, lambda pair: _size(pair[0]))
        self._applies = self._apply_lane(None)
        self._leased: dict[Key, tuple[Lane[Change, Applied], int]] = {}
        self._lock = threading.Lock()
        self._sent: Lane[tuple[str, int], None] = self._lane("sent", self._sent_all, lambda _: MARK_BYTES)
        self._posted: Lane[tuple[str, Hook], None] = self._lane("posted", self._posted_all, lambda _: MARK_BYTES)
        self._progress = HeldProgress(inner.record_progress, holding or Holding(), self._meters["progress"])

    # ---- writes ----------------------------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[Job], marks: Sequence[str] | None = None) -> list[Inserted]:
        """See `JobStore`."""
        if not jobs:
            return []
        inserted = self._inserts.put(list(zip(jobs, marks or [new_mark() for _ in jobs], strict=True)))
        return [each if each.created else Inserted(False, *self._progress.shown([each.job])) for each in inserted]

    def apply(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Applied]:
        """See `JobStore`."""
        if not changes and lease is None:
            return []
        self._progress.flush_of([change.old.id for change in changes])
        if lease is None:
            return self._applies.put(changes)
        with self._under(lease) as lane:
            return lane.put(changes)

    def record_progress(self, rows: Mapping[str, Progress], lease: Lease) -> None:
        """See `JobStore`; `HeldProgress.put` says what is kept back."""
        self._progress.put(rows, lease)

    def mark_sent(self, sent: Mapping[str, int]) -> None:
        """See `JobStore`."""
        if sent:
            self._sent.put(list(sent.items()))

    def mark_posted(self, marks: Mapping[str, Hook]) -> None:
        """See `JobStore`."""
        if marks:
            self._posted.put(list(marks.items()))

    def release_lease(self, lease: Lease) -> None:
        """See `JobStore`; what is kept under the lease is written before."""
        self._progress.flush([key_of(lease)])
        self._inner.release_lease(lease)

    def close(self) -> None:
        """Write what is kept and end what is under way, then close the inner store; idempotent."""
        self._progress.close()
        deadline = time.monotonic() + CLOSE_S
        with self._lock:
            leased = [lane for lane, _ in self._leased.values()]
        lanes: list[Lane[Any, Any]] = [self._inserts, self._applies, self._sent, self._posted, *leased]
        for lane in lanes:
            lane.drain(max(0.0, deadline - time.monotonic()))
        self._inner.close()

    # ---- reads that show progress ------------------------------------------------------------------------------------

    def get(self, ids: Iterable[str]) -> dict[str, Job]:
        """See `JobStore`."""
        found = self._inner.get(ids)
        return {job.id: job for job in self._progress.shown(found.values())}

    def at_engine(self, engine: str) -> list[Job]:
        """See `JobStore`."""
        return self._progress.shown(self._inner.at_engine(engine))

    def needing_owner(self, engine: str, limit: int) -> list[Job]:
        """See `JobStore`."""
        return self._progress.shown(self._inner.needing_owner(engine, limit))

    def in_state(self, state: State, limit: int, *, after: str | None = None) -> list[Job]:
        """See `JobStore`."""
        return self._progress.shown(self._inner.in_state(state, limit, after=after))

    def unsent(self, limit: int) -> list[Job]:
        """See `JobStore`."""
        return self._progress.shown(self._inner.unsent(limit))

    def page(self, where: JobFilter, limit: int, cursor: str | None = None) -> Page:
        """See `JobStore`."""
        found = self._inner.page(where, limit, cursor)
        return replace(found, jobs=tuple(self._progress.shown(found.jobs)))

    def promised(self) -> list[Promised]:
        """See `JobStore`."""
        self._progress.flush()
        return self._inner.promised()

    def usage(self, users: Iterable[str], since: float) -> dict[str, Usage]:
        """See `JobStore`."""
        self._progress.flush()
        return self._inner.usage(users, since)

    # ---- lanes -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _under(self, lease: Lease) -> Iterator[Lane[Change, Applied]]:
        """The lane of a lease, which is there while somebody uses it."""
        key = key_of(lease)
        with self._lock:
            lane, users = self._leased.get(key) or (self._apply_lane(lease), 0)
            self._leased[key] = lane, users + 1
        try:
            yield lane
        finally:
            with self._lock:
                _, users = self._leased.pop(key)
                if users > 1:
                    self._leased[key] = lane, users - 1

    def _apply_lane(self, lease: Lease | None) -> Lane[Change, Applied]:
        def apply_all(changes: list[Change]) -> list[Applied]:
            answers = self._inner.apply(changes, lease)
            return [a if a.won or a.job is None else Applied(False, *self._progress.shown([a.job])) for a in answers]

        return self._lane("apply", apply_all, lambda change: _size(change.new))

    def _insert_all(self, pairs: list[tuple[Job, str]]) -> list[Inserted]:
        return self._inner.insert([job for job, _ in pairs], [mark for _, mark in pairs])

    def _sent_all(self, pairs: list[tuple[str, int]]) -> list[None]:
        self._inner.mark_sent(_highest(pairs, lambda version: version))
        return [None] * len(pairs)

    def _posted_all(self, pairs: list[tuple[str, Hook]]) -> list[None]:
        self._inner.mark_posted(_highest(pairs, lambda hook: (hook.sent, hook.failures)))
        return [None] * len(pairs)

    def _lane(self, kind: str, call: Callable[[list[T]], list[A]], size_of: Callable[[T], int]) -> Lane[T, A]:
        return Lane(call, self._inner.ping, size_of, self._bounds, self._meters[kind])


def _size(job: Job) -> int:
    """Roughly the bytes of a record; its texts are what makes one large."""
    texts = len(job.source.uri) + len(job.message or "") + sum(len(event.text) for event in job.events)
    return RECORD_BYTES + LINE_BYTES * len(job.events) + texts


def _highest(pairs: Iterable[tuple[str, T]], rank: Callable[[T], Any]) -> dict[str, T]:
    """Of marks of one job the highest, which is what would come of them one after the other."""
    highest: dict[str, T] = {}
    for id, mark in pairs:
        if id not in highest or rank(highest[id]) < rank(mark):
            highest[id] = mark
    return highest
