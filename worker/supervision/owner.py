"""One engine's owner: while it holds the lease it looks once a tick, writes what changed, and does what the records ask."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import replace

from worker import doing, logs, sharing
from worker.jobs.errors import LeaseLost, Transient
from worker.jobs.model import Job
from worker.jobs.states import AT_ENGINE, State, Want
from worker.limits import LEAST_BYTES, RECONCILE_S, STALLED_S, STEP_BATCH
from worker.ports import Engine, Lease, Poll, Services, Step
from worker.supervision import attend, endings, failures, settle, submission
from worker.supervision.again import Again
from worker.supervision.allocation import Allocation
from worker.supervision.board import Board, shown
from worker.supervision.corrections import Action, Corrections
from worker.supervision.deaths import Deaths
from worker.supervision.diff import Findings, Patience, Terms, Watched, diff, remembered
from worker.supervision.health import Health
from worker.supervision.lease import Fenced, Held, engine_lease
from worker.supervision.leftovers import Leftovers
from worker.supervision.reconcile import Reconciler
from worker.supervision.relocation.drained import Drained
from worker.supervision.relocation.failover import Failover
from worker.supervision.throttle import Throttle

#: Between two looks: short after something started or ended, twice as long after each quiet one, up to a second at rest.
TICK_MIN_S = 0.05
TICK_S = 1.0
STANDBY_S = 2.0

log = logs.get(__name__)


class Owner:
    """The loop of one engine. `tick` is one turn of it; `run` turns until told to stop.

    What it remembers between ticks (`watched`) only saves reading: it is made anew from the store when the lease is won
    and every minute. `stopping` is true once it was told to end.
    """

    def __init__(self, services: Services, engine: Engine) -> None:
        self.ticked_at = time.monotonic()
        self._services = services
        self._held = Held(services.store, engine_lease(engine.name), services.owner)
        self._health = Health(services, engine.name)
        self.engine = engine = Fenced(
            engine, self._held, lambda orders: self._throttle.opened(orders, self._watched), self._health.submitted
        )
        self._corrections = Corrections(services.metrics, engine.name)
        self._reconciler = Reconciler(services, engine, self._corrections)
        self._watched: dict[str, Watched] = {}
        self._board = Board(services, engine, self._health)
        self._leftovers, self._throttle = Leftovers(services, engine), Throttle(services, engine)
        self._patience = Patience(STALLED_S, services.settings.stall_timeout_s, services.settings.metadata_timeout_s, LEAST_BYTES)
        self._session: str | None = None
        self._again = Again(services)
        self._drained = Drained(services, engine)
        self._allocation = Allocation(engine)
        self._deaths = Deaths(services, engine, self._again)
        self._failover = Failover(services, engine, self._health, self._board, self._corrections, self._deaths)
        self._token, self._loaded_at = 0, float("-inf")
        self._error: str | None = None
        self.stopping = False

    def run(self) -> None:
        """Turn until `retire`; then write the last progress and let the lease go."""
        pause_s = TICK_S
        while not self.stopping:
            moved = self._turn()
            self.ticked_at = time.monotonic()
            pause_s = TICK_MIN_S if moved else min(TICK_S, 2 * pause_s)
            self._rest(pause_s)
        self._last_words()

    def retire(self) -> None:
        """Make `run` return after the turn it is in; asks nobody."""
        self.stopping = True

    def _turn(self) -> int:
        try:
            if (lease := self._held.keep()) is None:
                self._standby()
                return 0
            if self._failover.covers(lease, self._error):
                return 0
            with self._services.metrics.ticks.labels(self.engine.name).time(), doing.at("tick"):
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
        poll = self._deaths.seen(lease, self._health.look(lease, self.engine))
        fresh = poll.session != self._session or self._error is not None
        if fresh:
            self._session = poll.session
            self._loaded_at = float("-inf")  # it was restarted, or away: every record is compared anew, now
            self._reload(lease)
        found = diff(self._watched, poll.items, time.monotonic(), self._patience)
        ended = self._follow(lease, poll, found)
        self._health.judge(lease, self._watched, poll, found)
        self._held.require()  # what is shown in Redis carries no token
        self._board.show(lease, self._allocation.measured(shown(self._watched, poll)))
        if self._held.has_time_for(self.engine.rpc_timeout_s):
            for handle in (*self._leftovers.clear(lease, poll), *self._drained.clear(lease, poll, self._watched)):
                self._watched.pop(handle, None)
        self._reconciler.consider(lease, poll, found.foreign)
        self._board.ended(ended)
        fresh |= not self._board.share(poll, foreign=self._reconciler.foreign, share=self._throttle.keep(poll, self._watched))
        self._again.nudge_due()
        if ended or fresh or self._allocation.gained(poll.free_bytes):  # there is room, space, or an engine where there was none
            self._services.nudger.nudge(Step.ADMIT)
        if fresh:
            self._again.look_soon()
        return started + ended

    # ---- what the records ask ------------------------------------------------------------------------------------

    def _attend(self, lease: Lease) -> int:
        total = 0
        while jobs := self._services.store.needing_owner(self.engine.name, STEP_BATCH):
            todo = attend.sort(jobs)
            if not self._held.has_time_for(self.engine.rpc_timeout_s):
                break
            self._watch(todo.submit)  # should there be no answer, the next look shows what came of it
            handed = submission.submit(self._services, self.engine, lease, todo.submit)
            self._again.queue(handed)
            self._watch(handed)
            endings.let_go(self._services, handed)
            successors = attend.pass_on(self._services, lease, todo)
            self._watch(successors)
            self._again.queue(successors)
            attend.pause(self._services, self.engine, todo.pause)
            if todo.shelve:
                self._watch(attend.shelve(self._services, self.engine, lease, todo.shelve, self.engine.poll().items))
            for handle in attend.cancel(self._services, self.engine, lease, todo.cancel):
                self._watched.pop(handle, None)
                self._leftovers.forget(handle)
            if handed or todo.shelve or todo.cancel:
                self._services.nudger.nudge(Step.NOTIFY)
            if todo.shelve or todo.cancel:
                self._services.nudger.nudge(Step.ADMIT)
            total += sum(job.state is State.DOWNLOADING for job in handed)
            if not handed or (len(jobs) < STEP_BATCH and len(handed) == len(todo.submit)):
                break
        return total

    # ---- what the engine shows -----------------------------------------------------------------------------------

    def _follow(self, lease: Lease, poll: Poll, found: Findings) -> int:
        if found.quiet:
            self._correct(lease, [], {}, [])
            return 0
        services, at, now = self._services, self._services.clock.time(), self._services.store.now()
        handles = [*found.adopted, *found.complete, *found.failed, *found.dead, *found.stopped, *found.missing, *found.phases]
        by_job = {self._watched[handle].job: handle for handle in handles}
        drained = services.drains() if found.failed or found.dead else {}
        completes, stops = set(found.complete), set(found.stopped)
        final = {self._watched[h].job: self._allocation.final(poll.items[h]) for h in found.complete}
        paused = {handle for handle in found.complete if self._watched[handle].state is State.PAUSED}
        if final:
            services.store.record_progress(final, lease)

        def change(job: Job) -> Job | None:
            handle = by_job[job.id]
            item = poll.items.get(handle)
            if item is None:
                return settle.lost(job, at, now)
            if handle in found.adopted:
                return settle.adopted(job, at)
            if handle in completes:
                return settle.completed(job, item, at)
            if fault := item.fault or found.dead.get(handle):
                return failures.failed(job, fault, at, now, failures.around(services, job, drained))
            if handle in found.phases:
                return settle.phased(job, found.phases[handle], at, now)
            return settle.stopped(job, at) if handle in stops else None

        jobs = settle.move(services, lease, by_job, change)
        services.failpoints.hit("tick.recorded")
        self._count(jobs, by_job, found, paused)
        self._after(lease, jobs, by_job, found)
        over = (self._watched.get(handle) for handle in (*found.complete, *found.failed, *found.dead))
        return sum(known is None or known.state is not State.DOWNLOADING for known in over)

    def _after(self, lease: Lease, jobs: dict[str, Job], by_job: dict[str, str], found: Findings) -> None:
        """Bring the engine and what is remembered in line with the records."""
        again: dict[str, Job] = {}
        self._again.queue(jobs.values())
        for job in jobs.values():
            handle = by_job[job.id]
            self._remember(handle, job)
            if job.state is State.DOWNLOADING and job.want is Want.RUN and handle in found.stopped:
                again[handle] = job
        if self._held.has_time_for(self.engine.rpc_timeout_s):
            over = {handle: self._watched.get(handle) for handle in (*found.failed, *found.dead)}
            spent = [handle for handle, known in over.items() if known is None or known.state is State.PAUSED]  # handed over anew, if ever
            self._correct(lease, spent, again, found.running)
        for some, step in ((found.complete, Step.FINISH), (found.stopped, Step.ADMIT), (jobs, Step.NOTIFY)):
            if some:
                self._services.nudger.nudge(step)

    def _count(self, jobs: dict[str, Job], by_job: dict[str, str], found: Findings, paused: set[str]) -> None:
        endings.let_go(self._services, jobs.values())
        state = {by_job[job.id]: job.state for job in jobs.values()}
        self._corrections.made(Action.RESUBMIT, sum(state.get(handle) is State.SUBMITTING for handle in found.missing))
        self._corrections.made(Action.ADOPT, sum(state.get(handle) is State.DOWNLOADING for handle in found.adopted))
        self._corrections.made(Action.FINISH, sum(state.get(handle) is State.FINISHING for handle in paused))

    def _correct(self, lease: Lease, spent: list[str], again: dict[str, Job], running: list[str]) -> None:
        """Remove what failed, resume what should run, stop what should not; what is missed here is found again."""
        attend.remove_spent(self._services, self.engine, spent)
        if again:
            refused = submission.hand_back(self._services, self.engine, lease, list(again.values()))
            self._again.queue(refused)
            self._watch(refused)
            endings.let_go(self._services, refused)
        if running:
            self.engine.pause(running)
        self._corrections.asked(Action.RESUME, [handle for handle, job in again.items() if not submission.stops_by_itself(job)])
        self._corrections.asked(Action.STOP, running)

    # ---- memory --------------------------------------------------------------------------------------------------

    def _reload(self, lease: Lease) -> None:
        """Read the records again after the lease was won, after a restart of the engine, and each minute."""
        if lease.token == self._token and time.monotonic() - self._loaded_at < RECONCILE_S:
            return
        self._token, self._loaded_at = lease.token, time.monotonic()
        kept, self._watched = self._watched, {}
        self._leftovers.forget()
        jobs = self._services.store.at_engine(self.engine.name)
        twice = sharing.outranked(jobs)  # a crash came between a hand-over's two writes
        sharing.hand_over(self._services, lease, twice)
        for job in jobs:
            if job.transfer is not None and job.at_attempt and job not in twice:
                handle = self.engine.handle(job.transfer.id, job.transfer.attempt)
                self._remember(handle, job, kept.get(handle))
        self._deaths.forgive(lease, jobs)
        self._reconciler.due()

    def _watch(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if job.transfer is not None:
                self._remember(self.engine.handle(job.transfer.id, job.transfer.attempt), job)

    def _remember(self, handle: str, job: Job, kept: Watched | None = None) -> None:
        kept = kept or self._watched.pop(handle, None)
        self._leftovers.remember(handle, job)
        here = job.state in AT_ENGINE or (job.state is State.DONE and job.seeding)
        if here and job.at_attempt:
            kept = kept or remembered(job, time.monotonic(), self._services.store.now, self._patience)
            self._watched[handle] = replace(kept, job=job.id, state=job.state, phase=job.phase, terms=Terms.of(job))

    # ---- the loop's edges ----------------------------------------------------------------------------------------

    def _say(self, error: str | None) -> None:
        if error and error != self._error:
            log.warning("the engine cannot be looked at", engine=self.engine.name, error=error)
        elif self._error and not error:
            log.info("the engine answers again", engine=self.engine.name)
        self._error = error

    def _standby(self) -> None:
        if self._token:
            log.warning("another looks after the engine now", engine=self.engine.name, token=self._token)
        self._token = 0
        self._rest(STANDBY_S)

    def _rest(self, seconds: float) -> None:
        if not self.stopping:
            self._services.coordinator.rest(self.engine.name, seconds)

    def _last_words(self) -> None:
        try:
            if self._held.has_time_for(0) and (lease := self._held.keep()):
                self._board.store_progress(lease)
        except Transient as error:
            log.warning("the last progress is not stored", engine=self.engine.name, error=str(error))
        self._held.release()
        with contextlib.suppress(Transient):  # the next owner looks every two seconds anyway
            self._services.coordinator.wake(self.engine.name)
