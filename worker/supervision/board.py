"""What an engine's owner shows to others: progress of its jobs, a snapshot of the engine, metrics."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from worker import logs
from worker.jobs.errors import Transient
from worker.jobs.model import Progress
from worker.jobs.states import State
from worker.ports import Engine, EngineSnapshot, Item, ItemStatus, Lease, Poll, Services
from worker.supervision.bandwidth.throttle import Share
from worker.supervision.diff import Watched
from worker.supervision.health import Health

PROGRESS_STORE_S = 5.0
#: An engine is given its slots and as many jobs more as it finished in this time, so that small files do not wait.
AHEAD_WINDOW_S = 2.0
AHEAD_MAX = 200

log = logs.get(__name__)


def shown(watched: Mapping[str, Watched], poll: Poll) -> dict[str, Item]:
    """What the engine says of every job that runs or is paused there, by job."""
    states = (State.DOWNLOADING, State.PAUSED)
    return {job.job: poll.items[handle] for handle, job in watched.items() if job.state in states and handle in poll.items}


class Board:
    """Written by one owner each tick. Redis being away hides it from others and stops nothing."""

    def __init__(self, services: Services, engine: Engine, health: Health) -> None:
        self._services = services
        self._engine = engine
        self._health = health
        self._ends: deque[float] = deque(maxlen=AHEAD_MAX)
        self._shown: Mapping[str, Progress] = {}
        self._stored: Mapping[str, Progress] = {}
        self._stored_at = float("-inf")

    def ended(self, count: int) -> None:
        """Remember that so many downloads ended now."""
        self._ends.extend([time.monotonic()] * count)

    def show(self, lease: Lease, rows: Mapping[str, Progress]) -> None:
        """Show the progress of jobs, by job: at once in Redis when it changed, every few seconds in the store."""
        if rows != self._shown:
            self._shown = rows
            try:
                self._services.coordinator.put_progress(self._engine.name, rows)
            except Transient as error:
                log.info("progress is not shown", engine=self._engine.name, error=str(error))
        if time.monotonic() - self._stored_at >= PROGRESS_STORE_S:
            self.store_progress(lease)

    def store_progress(self, lease: Lease) -> None:
        """Write what changed since the last time to the store, in one batch."""
        changed = {job: row for job, row in self._shown.items() if self._stored.get(job) != row}
        if changed:
            self._services.store.record_progress(changed, lease)
        self._stored, self._stored_at = self._shown, time.monotonic()

    def share(
        self, poll: Poll | None, error: str | None = None, *, foreign: int = 0, share: Share | None = None, unproved: bool = False
    ) -> bool:
        """Share what the last look saw, or why it failed or there was none; false when nobody could see the engine before."""
        snapshot, known = replace(self._snapshot(poll, error, foreign, share or Share()), unproved=unproved), True
        try:
            known = self._services.coordinator.put_snapshot(snapshot)
        except Transient as away:
            log.info("the snapshot is not shared", engine=self._engine.name, error=str(away))
        metrics, name = self._services.metrics, self._engine.name
        metrics.engine_up.labels(name).set(1 if poll else 0)
        metrics.engine_items.labels(name).set(snapshot.items)
        metrics.engine_speed.labels(name).set(snapshot.speed)
        if snapshot.free_bytes is not None:
            metrics.engine_free.labels(name).set(snapshot.free_bytes)
        return known

    def _snapshot(self, poll: Poll | None, error: str | None, foreign: int, share: Share) -> EngineSnapshot:
        now, breaker = time.monotonic(), self._health.breaker
        return EngineSnapshot(
            name=self._engine.name,
            slots=self._engine.slots,
            kinds=tuple(sorted(map(str, self._engine.features.kinds))),
            directory=self._engine.directory,
            free_bytes=poll.free_bytes if poll else None,
            speed=poll.speed if poll else 0,
            items=len(poll.items) if poll else 0,
            ahead=sum(1 for ended in self._ends if now - ended <= AHEAD_WINDOW_S),
            at=self._services.clock.time(),
            owner=self._services.owner,
            error=error,
            foreign=foreign,
            limit=share.limit,
            wants=share.wants,
            share=share.part,
            told=share.told,
            budgets=share.budgets,
            unheld=share.unheld,
            budget=share.budget,
            zone=self._services.settings.timezone,
            breaker=str(breaker.state),
            level=breaker.level,
            until=breaker.until,
            silent_since=breaker.silent_since,
            reason=breaker.reason,
            pace=self._health.pace,
            done=sum(row.done for row in self._shown.values()),
            waiting=sum(item.status is ItemStatus.WAITING and item.transfer is not None for item in poll.items.values()) if poll else 0,
            version=poll.version if poll else None,
        )
