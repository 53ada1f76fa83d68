"""All loops of a supervisor: one owner an engine, so that an engine that hangs holds up no other, and the sweeper."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from worker import logs
from worker.jobs.errors import Transient
from worker.limits import LOOPS_STOP_S, NUDGE_S, SWEEP_S
from worker.ports import SWEEPER, Services, Step
from worker.supervision.owners import Owners
from worker.supervision.probation import Prove
from worker.supervision.relocation.abandoned import Abandoned

SWEEPER_REST_S = 2.0
SWEEP_AGAIN_S = 0.05
#: A step that wants to look again soon is nudged at most so often.
REMINDED_REST_S = 0.1

log = logs.get(__name__)


class Supervisor:
    """A plain object with `start` and `stop`; runs alone, in a Celery worker, or beside an API.

    Engines that come and go while it runs get and lose their owners within seconds.

    Args:
        sweep: looks for work of every step and nudges those that have some, which it returns.
        prove: whether an engine is kept out of private networks; each is looked after only once it is. None asks nobody.
    """

    def __init__(self, services: Services, sweep: Callable[[Services], object], prove: Prove | None = None) -> None:
        self._services = services
        self._sweep = sweep
        self._owners = Owners(services, prove)
        self._abandoned = Abandoned(services)
        self._stopping = threading.Event()
        self._swept_at = time.monotonic()
        self._sweeper = threading.Thread(target=self._sweep_on, name="sweeper", daemon=True)

    def start(self) -> None:
        """Start the loops; call once."""
        if fault := self._services.pool.fault:
            log.error("the engines cannot be read; there are none until they can", fault=fault)
        self._owners.follow()
        self._sweeper.start()

    def retire(self) -> None:
        """Make each loop end after the turn it is in, within seconds; returns at once, so that a signal handler may call it."""
        self._stopping.set()
        self._owners.retire()

    def stop(self, timeout_s: float = LOOPS_STOP_S) -> bool:
        """Stop the loops and let the leases go; true when all ended in time."""
        self.retire()
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(Transient):  # they rest for two seconds at most
            for loop in (*self._owners.names(), SWEEPER):
                self._services.coordinator.wake(loop)
        if self._sweeper.ident is not None:
            self._sweeper.join(max(0.0, deadline - time.monotonic()))
        return self._owners.join(deadline) and not self._sweeper.is_alive()

    def loops(self) -> dict[str, float]:
        """Seconds since each loop's last turn, by its name."""
        return {**self._owners.ages(), "sweeper": time.monotonic() - self._swept_at}

    def _sweep_on(self) -> None:
        due, woken = 0.0, False  # the first look is at once: what a crash left is found before anything else
        while not self._stopping.is_set():
            self._owners.follow()
            if woken or time.monotonic() >= due:
                quiet = self._sweep_once()
                # A nudge that was lost keeps others back for NUDGE_S: what waits now may have had such a one.
                due = time.monotonic() + (SWEEP_S if quiet else NUDGE_S)
            self._swept_at = time.monotonic()
            if woken:
                self._stopping.wait(SWEEP_AGAIN_S)  # doors that are busy wake it all the time
            rest_s = min(due - time.monotonic(), self._nudge_reminded())
            woken = self._services.coordinator.rest(SWEEPER, max(0.0, rest_s))

    def _nudge_reminded(self) -> float:
        """Nudge the steps whose time has come; seconds until it is worth another look."""
        try:
            now = self._services.store.now()
            steps, later = self._services.coordinator.reminders(now)
        except Transient:  # the sweep tells of it
            return SWEEPER_REST_S
        for step in set(steps) & set(Step):  # another version may know more of them
            self._services.nudger.nudge(Step(step))
        if steps:  # the step is about to say when it wants to look again
            return REMINDED_REST_S
        return SWEEPER_REST_S if later is None else min(SWEEPER_REST_S, max(REMINDED_REST_S, later - now))

    def _sweep_once(self) -> bool:
        """Sweep; true when it found that nothing waits."""
        try:
            self._services.failpoints.hit("sweep.begun")
            self._abandoned.look()
            return not self._sweep(self._services)
        except Transient as error:
            log.warning("the sweep failed; the next one is in a few seconds", error=str(error))
        except Exception:
            log.exception("the sweep failed in a way it should not; it goes on")
        return False
