"""An engine that is looked after, and so given work, only once it was seen to be kept out of private networks; for the mode `strict`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from worker import logs
from worker.jobs.errors import Transient
from worker.ports import Engine, Services
from worker.supervision.board import Board
from worker.supervision.health import Health
from worker.supervision.owner import Owner

#: Why an engine is not proved to be kept out; None when it is. Takes up to a minute. Raises Transient when it does not answer.
Prove = Callable[[Engine], str | None]

#: Between two trials: after the first one, and at most.
FIRST_S, PAUSE_S_MAX = 1.0, 60.0
#: Between two looks at a trial; what is shown of the engine is fresh for some times as long.
LOOK_S = 0.5
GIVEN_NOTHING = "is given nothing before it is proved to be kept out of private networks"

log = logs.get(__name__)


class Probation:
    """Of one engine, in the thread of its owner, before that begins."""

    def __init__(self, services: Services, engine: Engine, prove: Prove) -> None:
        self._services = services
        self._engine = engine
        self._prove = prove
        self._pause_s = FIRST_S
        self._board = Board(services, engine, Health(services, engine.name))
        self._why: str | None = "it is being tried"

    def passed(self, owner: Owner) -> bool:
        """Try the engine until it is proved; false when the owner is told to end before. Shows meanwhile why it gets nothing."""
        while not owner.stopping:
            trial = threading.Thread(target=self._try, name=f"trial-{self._engine.name}", daemon=True)
            trial.start()
            while trial.is_alive() and not owner.stopping:
                self._wait(owner)
            if not trial.is_alive() and self._why is None:
                return True
            due = time.monotonic() + self._pause_s
            self._pause_s = min(PAUSE_S_MAX, 2 * self._pause_s)
            while time.monotonic() < due and not owner.stopping:
                self._wait(owner)
        return False

    def _try(self) -> None:
        try:
            why = self._prove(self._engine)
        except Transient as error:
            why = str(error)
        except Exception:
            log.exception("the trial of an engine failed in a way it should not; it is tried again", engine=self._engine.name)
            why = "its trial failed"
        if why and why != self._why:
            log.warning("the engine is not proved to be guarded, and is given nothing", engine=self._engine.name, why=why)
        if why is None:
            log.info("the engine is proved to be guarded", engine=self._engine.name)
        self._why = why

    def _wait(self, owner: Owner) -> None:
        owner.ticked_at = time.monotonic()
        if self._is_nobodys():
            self._board.share(None, f"{GIVEN_NOTHING}: {self._why or 'it was, a moment ago'}", unproved=True)
        time.sleep(LOOK_S)

    def _is_nobodys(self) -> bool:
        """Whether no other supervisor looks after it: one that has proved it shows it as it is."""
        try:
            seen = self._services.coordinator.snapshots().get(self._engine.name)
        except Transient:
            return False
        return seen is None or seen.unproved or seen.owner == self._services.owner
