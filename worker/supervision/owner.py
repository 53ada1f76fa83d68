"""One engine's owner: while it holds the lease it looks once a tick, writes what changed, and does what the records ask."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import replace

from worker import logs
from worker.jobs.errors import LeaseLost, Transient
from worker.jobs.model import Job, Progress
from worker.jobs.states import AT_ENGINE, State, Want
from worker.limits import ASIDE_S, RECONCILE_S, STEP_BATCH
from worker.ports import Engine, Lease, Poll, Services, Step, WaitingJob
from worker.supervision import attend, settle
from worker.supervision.board import Board
from worker.supervision.diff import Findings, Patience, Watched, diff
from worker.supervision.lease import Held, engine_lease
from worker.supervision.leftovers import Leftovers
from worker.supervision.reconcile import Reconciler

#: Between two looks: short after something started or ended, twice as long after each quiet one, up to a second at rest.
TICK_MIN_S = 0.05
TICK_S = 1.0
STANDBY_S = 2.0
STALLED_S = 60.0

log = logs.get(__name__)


class Owner:
    """The loop of one engine. `tick` is one turn of it; `run` turns until told to stop.

    What it remembers between ticks (`watched`) only saves reading: it is made anew from the store when the lease is won
    and every minute.
    """

    def __init__(self, services: Services, engine: Engine) -> None:
        self.engine = engine
        self.ticked_at = time.monotonic()
        self._services = services
        self._held = Held(services.store, engine_lease(engine.name), services.owner)
        self._reconciler = Reconciler(services, engine)
        self._watched: dict[str, Watched] = {}
        self._board = Board(services, engine)
        self._leftovers = Leftovers(services, engine)
        self._patience = Patience(STALLED_S, services.settings.stall_timeout_s, services.settings.metadata_timeout_s)
        self._session: str | None = None
        self._later: list[float] = []
        self._token = 0
        self._loaded_at = float("-inf")
        self._error: str | None = None
        self._stopping = False

    def run(self) -> None:
        """Turn until `stop`; then write the last progress and let the lease go."""
        pause_s = TICK_S
        while not self._stopping:
            moved = self._turn()
            self.ticked_at = time.monotonic()
            pause_s = TICK_MIN_S if moved else min(TICK_S, 2 * pause_s)
            self._rest(pause_s)
        self._last_words()

    def stop(self) -> None:
        """Make `run` return after the turn it is in."""
        self._stopping = True
        with contextlib.suppress(Transient):  # it rests for a second at most
            self._services.coordinator.wake(self.engine.name)

    def _turn(self) -> int:
        try:
            lease = self._held.keep()
            if lease is None:
                self._standby()
                return 0
            with self._services.metrics.ticks.labels(self.engine.name).time():
                moved = self.tick(lease)
            self._say(None)
            return moved
        except LeaseLost as error:
            self._held.drop()
            self._say(str(error))
        except Transient as error:
            self._services.metrics.tick_errors.labels(self.engine.name).inc()
            self._say(str(error))
            self._board.share(None, str(error))
        except Exception:  # a loop that ends would leave its engine without an owner
            self._services.metrics.tick_errors.labels(self.engine.name).inc()
            log.exception("a look at the engine failed in a way it should not; it goes on", engine=self.engine.name)
        return 0

    def tick(self, lease: Lease) -> int:
        """Look at the engine once and follow; returns how many downloads started or ended."""
        self._reload(lease)
        started = self._attend(lease)
        poll = self.engine.poll()
        fresh = poll.session != self._session or self._error is not None
        if poll.session != self._session:
            self._session = poll.session
            self._loaded_at = float("-inf")  # restarted: every record is compared anew, now
            self._reload(lease)
        found = diff(self._watched, poll.items, time.monotonic(), self._patience)
        ended = self._follow(lease, poll, found)
        self._board.show(lease, self._rows(poll))
        if self._held.has_time_for(self.engine.rpc_timeout_s):
            for handle in self._leftovers.clear(lease, poll):
                self._watched.pop(handle, None)
        self._reconciler.consider(lease, poll, found.foreign)
        self._board.ended(ended)
        self._board.share(poll)
        self._nudge_due()
        if ended or fresh:  # there is room, or an engine where there was none
            self._services.nudger.nudge(Step.ADMIT)
        if fresh:  # jobs that waited for it may have been put aside a moment ago
            self._later.append(self._services.store.now() + ASIDE_S)
        return started + ended

    # ---- what the records ask ------------------------------------------------------------------------------------

    def _attend(self, lease: Lease) -> int:
        total = 0
        while jobs := self._services.store.needing_owner(self.engine.name, STEP_BATCH):
            todo = attend.sort(jobs)
            if not self._held.has_time_for(self.engine.rpc_timeout_s):
                break
            handed = attend.submit(self._services, self.engine, lease, todo.submit)
            self._queue_again(handed)
            started = [job for job in handed if job.state is State.DOWNLOADING]
            self._watch(started)
            attend.pause(self.engine, todo.pause)
            if todo.shelve:
                self._watch(attend.shelve(self._services, self.engine, lease, todo.shelve, self.engine.poll().items))
            for handle in attend.cancel(self._services, self.engine, lease, todo.cancel):
                self._watched.pop(handle, None)
                self._leftovers.forget(handle)
            if handed or todo.shelve or todo.cancel:
                self._services.nudger.nudge(Step.NOTIFY)
            if todo.shelve or todo.cancel:
                self._services.nudger.nudge(Step.ADMIT)
            total += len(started)
            left = len(jobs) == STEP_BATCH or len(handed) < len(todo.submit)
            if not left or not handed:
                break
        return total

    # ---- what the engine shows -----------------------------------------------------------------------------------

    def _follow(self, lease: Lease, poll: Poll, found: Findings) -> int:
        if found.quiet:
            return 0
        services, at, now = self._services, self._services.clock.time(), self._services.store.now()
        handles = [*found.complete, *found.failed, *found.dead, *found.stopped, *found.missing, *found.phases]
        by_job = {self._watched[handle].job: handle for handle in handles}
        completes, stops = set(found.complete), set(found.stopped)
        final = {self._watched[h].job: settle.final(poll.items[h]) for h in found.complete}
        if final:
            services.store.record_progress(final, lease)

        def change(job: Job) -> Job | None:
            handle = by_job[job.id]
            item = poll.items.get(handle)
            if item is None:
                return settle.lost(job, at, now)
            if handle in completes:
                return settle.completed(job, item, at)
            if fault := item.fault or found.dead.get(handle):
                return settle.failed(job, fault, at, now)
            if handle in found.phases:
                return settle.phased(job, found.phases[handle], at)
            return settle.stopped(job, at) if handle in stops else None

        jobs = settle.move(services, lease, by_job, change)
        services.failpoints.hit("tick.recorded")
        self._after(lease, jobs, by_job, found)
        return sum(not self._downloads(handle) for handle in (*found.complete, *found.failed, *found.dead))

    def _downloads(self, handle: str) -> bool:
        return handle in self._watched and self._watched[handle].state is State.DOWNLOADING

    def _after(self, lease: Lease, jobs: dict[str, Job], by_job: dict[str, str], found: Findings) -> None:
        """Bring the engine and what is remembered in line with the records."""
        again: list[Job] = []
        self._queue_again(jobs.values())
        for job in jobs.values():
            handle = by_job[job.id]
            self._remember(handle, job)
            if job.state is State.DOWNLOADING and job.want is Want.RUN and handle in found.stopped:
                again.append(job)
        self._count(jobs.values())
        if self._held.has_time_for(self.engine.rpc_timeout_s):
            spent = [handle for handle in (*found.failed, *found.dead) if handle not in self._watched]
            self._correct(lease, spent, again, found.running)
        if found.complete:
            self._services.nudger.nudge(Step.FINISH)
        if found.stopped:
            self._services.nudger.nudge(Step.ADMIT)
        if jobs:
            self._services.nudger.nudge(Step.NOTIFY)
        if found.missing:
            self._services.metrics.reconciled.labels(self.engine.name, "resubmit").inc(len(found.missing))

    def _count(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if job.terminal:
                self._services.metrics.ended.labels(job.state, job.cause or "").inc()

    def _queue_again(self, jobs: Iterable[Job]) -> None:
        """Put jobs that are tried again in the waiting index, and remember when to say so."""
        queued = [job for job in jobs if job.state is State.QUEUED]
        if queued:
            self._later += [job.not_before for job in queued]
            self._services.coordinator.add_waiting([WaitingJob.of(job) for job in queued])

    def _nudge_due(self) -> None:
        """Nudge admission when the time of a job that is tried again has come; a sweep would do it, later."""
        if not self._later:
            return
        now = self._services.store.now()
        if min(self._later) <= now:
            self._later = [due for due in self._later if due > now]
            self._services.nudger.nudge(Step.ADMIT)

    def _correct(self, lease: Lease, spent: list[str], again: list[Job], running: list[str]) -> None:
        """Remove what failed, resume what should run, stop what should not; what is missed here is found again."""
        if spent:
            self.engine.remove(spent)
        if again:
            refused = attend.hand_back(self._services, self.engine, lease, again)
            self._queue_again(refused)
            self._watch(refused)
            self._count(refused)
        if running:
            self.engine.pause(running)

    # ---- memory --------------------------------------------------------------------------------------------------

    def _reload(self, lease: Lease) -> None:
        """Read the records again after the lease was won, after a restart of the engine, and each minute."""
        if lease.token == self._token and time.monotonic() - self._loaded_at < RECONCILE_S:
            return
        self._token, self._loaded_at = lease.token, time.monotonic()
        kept, self._watched = self._watched, {}
        self._leftovers.forget()
        for job in self._services.store.at_engine(self.engine.name):
            if job.transfer is not None and job.transfer.attempt == job.attempt:
                handle = self.engine.handle(job.transfer.id, job.transfer.attempt)
                self._remember(handle, job, kept.get(handle))
        self._reconciler.due()

    def _watch(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if job.transfer is not None:
                self._remember(self.engine.handle(job.transfer.id, job.transfer.attempt), job)

    def _remember(self, handle: str, job: Job, kept: Watched | None = None) -> None:
        kept = kept or self._watched.pop(handle, None)
        self._leftovers.remember(handle, job)
        here = job.state in AT_ENGINE or (job.state is State.DONE and job.seeding)
        if here and job.transfer is not None and job.transfer.attempt == job.attempt:
            kept = kept or Watched(job.id, job.state, job.phase, -1, time.monotonic())
            self._watched[handle] = replace(kept, state=job.state, phase=job.phase)

    def _rows(self, poll: Poll) -> dict[str, Progress]:
        """The progress of every job that runs or is paused here."""
        return {
            watched.job: poll.items[handle].progress
            for handle, watched in self._watched.items()
            if watched.state in (State.DOWNLOADING, State.PAUSED) and handle in poll.items
        }

    # ---- the loop's edges ----------------------------------------------------------------------------------------

    def _say(self, error: str | None) -> None:
        if error != self._error:
            if error:
                log.warning("the engine cannot be looked at", engine=self.engine.name, error=error)
            elif self._error:
                log.info("the engine answers again", engine=self.engine.name)
        self._error = error

    def _standby(self) -> None:
        self._token = 0
        self._rest(STANDBY_S)

    def _rest(self, seconds: float) -> None:
        if not self._stopping:
            self._services.coordinator.rest(self.engine.name, seconds)

    def _last_words(self) -> None:
        try:
            lease = self._held.keep()
            if lease is not None:
                self._board.store_progress(lease)
        except Transient as error:
            log.warning("the last progress is not stored", engine=self.engine.name, error=str(error))
        self._held.release()
