"""One engine's owner: while it holds the lease it looks once a tick, writes what changed, and does what the records ask."""

from __future__ import annotations

import contextlib
import time

from worker import doing, logs, sharing
from worker.jobs.errors import LeaseLost, Transient
from worker.limits import LEAST_BYTES, RECONCILE_S, STALLED_S
from worker.ports import Engine, Lease, Services, Step
from worker.supervision.again import Again
from worker.supervision.allocation import Allocation
from worker.supervision.attend import Attendance
from worker.supervision.bandwidth.throttle import Throttle
from worker.supervision.board import Board, shown
from worker.supervision.corrections import Corrections
from worker.supervision.deaths import Deaths
from worker.supervision.diff import Patience, diff
from worker.supervision.health import Health
from worker.supervision.lease import Fenced, Held, engine_lease
from worker.supervision.leftovers import Leftovers
from worker.supervision.observed import Observed
from worker.supervision.reconcile import Reconciler
from worker.supervision.relocation.drained import Drained
from worker.supervision.relocation.failover import Failover
from worker.supervision.room import Room
from worker.supervision.watchlist import Watchlist

#: Between two looks: short after something started or ended, twice as long after each quiet one, up to a second at rest.
TICK_MIN_S = 0.05
TICK_S = 1.0
STANDBY_S = 2.0

log = logs.get(__name__)


class Owner:
    """The loop of one engine. `tick` is one turn of it; `run` turns until told to stop.

    What it remembers between ticks (`Watchlist`) only saves reading: it is made anew from the store when the lease is won
    and every minute. `stopping` is true once it was told to end.
    """

    def __init__(self, services: Services, engine: Engine) -> None:
        self.ticked_at = time.monotonic()
        self._services = services
        self._held = Held(services.store, engine_lease(engine.name), services.owner)
        self._health = Health(services, engine.name)
        self.engine = engine = Fenced(
            engine, self._held, lambda orders: self._throttle.opened(orders, self._watchlist.jobs), self._health.submitted
        )
        self._corrections = Corrections(services.metrics, engine.name)
        self._reconciler = Reconciler(services, engine, self._corrections)
        self._board = Board(services, engine, self._health)
        self._leftovers, self._throttle = Leftovers(services, engine), Throttle(services, engine)
        self._patience = Patience(STALLED_S, services.settings.stall_timeout_s, services.settings.metadata_timeout_s, LEAST_BYTES)
        self._watchlist = Watchlist(services, engine, self._leftovers, self._patience)
        self._session: str | None = None
        self._again = Again(services)
        self._drained = Drained(services, engine)
        self._allocation = Allocation(engine)
        self._room = Room(services, engine)
        self._deaths = Deaths(services, engine, self._again)
        self._failover = Failover(services, engine, self._health, self._board, self._corrections, self._deaths)
        self._attendance = Attendance(services, engine, self._held, self._watchlist, self._leftovers, self._again)
        self._observed = Observed(services, engine, self._held, self._watchlist, self._allocation, self._again, self._corrections)
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
        started = self._attendance.serve(lease)
        poll = self._deaths.seen(lease, self._health.look(lease, self.engine))
        fresh = poll.session != self._session or self._error is not None
        if fresh:
            self._session = poll.session
            self._loaded_at = float("-inf")  # it was restarted, or away: every record is compared anew, now
            self._reload(lease)
        watched = self._watchlist.jobs
        found = diff(watched, poll.items, time.monotonic(), self._patience)
        found.dead.update(self._room.without(lease, watched, poll))
        ended = self._observed.follow(lease, poll, found)
        self._health.judge(lease, watched, poll, found)
        self._held.require()  # what is shown in Redis carries no token
        self._board.show(lease, self._allocation.measured(shown(watched, poll)))
        if self._held.has_time_for(self.engine.rpc_timeout_s):
            self._watchlist.drop([*self._leftovers.clear(lease, poll), *self._drained.clear(lease, poll, watched)])
        self._reconciler.consider(lease, poll, found.foreign)
        self._board.ended(ended)
        fresh |= not self._board.share(poll, foreign=self._reconciler.foreign, share=self._throttle.keep(poll, watched))
        self._again.nudge_due()
        if ended or fresh or self._allocation.gained(poll.free_bytes):  # there is room, space, or an engine where there was none
            self._services.nudger.nudge(Step.ADMIT)
        if fresh:
            self._again.look_soon()
        return started + ended

    def _reload(self, lease: Lease) -> None:
        """Read the records again after the lease was won, after a restart of the engine, and each minute."""
        if lease.token == self._token and time.monotonic() - self._loaded_at < RECONCILE_S:
            return
        self._token, self._loaded_at = lease.token, time.monotonic()
        jobs = self._services.store.at_engine(self.engine.name)
        twice = sharing.outranked(jobs)  # a crash came between a hand-over's two writes
        sharing.hand_over(self._services, lease, twice)
        self._watchlist.renew(job for job in jobs if job not in twice)
        self._deaths.forgive(lease, jobs)
        self._reconciler.due()

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
