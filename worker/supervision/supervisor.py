"""All loops of a supervisor: one owner an engine, so that an engine that hangs holds up no other, and the sweeper."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from worker import logs
from worker.jobs.errors import Transient
from worker.limits import SWEEP_S
from worker.ports import SWEEPER, Services
from worker.supervision.owner import Owner

SWEEPER_REST_S = 2.0
SWEEP_AGAIN_S = 0.05

log = logs.get(__name__)


class Supervisor:
    """A plain object with `start` and `stop`; runs alone, in a Celery worker, or beside an API.

    Args:
        sweep: looks for work of every step and nudges those that have some.
    """

    def __init__(self, services: Services, sweep: Callable[[Services], object]) -> None:
        self._services = services
        self._sweep = sweep
        self._owners = [Owner(services, engine) for engine in services.engines.values()]
        self._stopping = threading.Event()
        self._swept_at = time.monotonic()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the loops; call once."""
        loops: dict[str, Callable[[], None]] = {f"engine-{owner.engine.name}": owner.run for owner in self._owners}
        loops["sweeper"] = self._sweep_on
        self._threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in loops.items()]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Stop the loops and let the leases go; true when all ended in time."""
        self._stopping.set()
        with contextlib.suppress(Transient):  # it rests for two seconds at most
            self._services.coordinator.wake(SWEEPER)
        for owner in self._owners:
            owner.stop()
        with contextlib.suppress(Transient):  # it rests for two seconds at most
            self._services.coordinator.wake(SWEEPER)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def loops(self) -> dict[str, float]:
        """Seconds since each loop's last turn, by its name."""
        now = time.monotonic()
        ages = {f"engine-{owner.engine.name}": now - owner.ticked_at for owner in self._owners}
        return {**ages, "sweeper": now - self._swept_at}

    def _sweep_on(self) -> None:
        due, woken = 0.0, False  # the first look is at once: what a crash left is found before anything else
        while not self._stopping.is_set():
            if woken or time.monotonic() >= due:
                self._sweep_once()
                due = time.monotonic() + SWEEP_S
            self._swept_at = time.monotonic()
            if woken:
                self._stopping.wait(SWEEP_AGAIN_S)  # doors that are busy wake it all the time
            woken = self._services.coordinator.rest(SWEEPER, SWEEPER_REST_S)

    def _sweep_once(self) -> None:
        try:
            self._sweep(self._services)
        except Transient as error:
            log.warning("the sweep failed; the next one is in a few seconds", error=str(error))
        except Exception:
            log.exception("the sweep failed in a way it should not; it goes on")
