"""What an engine downloads goes to others while an operator drains it with `move`."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from worker import logs
from worker.jobs.errors import Transient
from worker.jobs.states import State
from worker.limits import STEP_BATCH
from worker.ports import Engine, ItemStatus, Lease, Poll, Services, Step
from worker.supervision.diff import Watched
from worker.supervision.lease import Fenced
from worker.supervision.relocation.departure import release

#: Between two looks at what an operator has said.
LOOK_S = 1.0
#: What is complete is finished where it is, and what is paused goes elsewhere when it is resumed.
AT_WORK = frozenset({ItemStatus.WAITING, ItemStatus.RUNNING})

log = logs.get(__name__)


class Drained:
    """Of one engine, as its owner. Jobs that no other engine can fetch, or none that answers, stay."""

    def __init__(self, services: Services, engine: Fenced) -> None:
        self._services = services
        self._engine = engine
        self._looked_at = float("-inf")

    def clear(self, lease: Lease, poll: Poll, watched: Mapping[str, Watched]) -> list[str]:
        """Release some of what is to leave; returns the handles it had.

        Raises:
            Transient: a service does not answer; it goes on at the next look.
        """
        if time.monotonic() - self._looked_at < LOOK_S:
            return []
        self._looked_at = time.monotonic()
        drains = self._services.drains()
        if self._engine.name not in drains or not drains[self._engine.name].move:
            return []
        running = [handle for handle, known in watched.items() if known.state is State.DOWNLOADING and _at_work(poll, handle)]
        others = self._others(drains) if running else []
        if not others:
            return []
        some = {handle: watched[handle].job for handle in running[:STEP_BATCH]}
        gone = release(self._services, self._engine, lease, some, others, f"engine {self._engine.name} is being drained")
        if gone:
            log.info("downloads are queued again for other engines", engine=self._engine.name, jobs=len(gone))
            self._services.nudger.nudge(Step.NOTIFY)
        return gone

    def _others(self, drained: Collection[str]) -> list[Engine]:
        """Those that are given work, and that answered their owner lately."""
        try:
            seen = self._services.coordinator.snapshots()
        except Transient:
            return []
        up = {name for name, snapshot in seen.items() if snapshot.error is None}
        return [engine for name, engine in self._services.engines.items() if name in up.difference(drained) and name != self._engine.name]


def _at_work(poll: Poll, handle: str) -> bool:
    item = poll.items.get(handle)
    return item is not None and item.status in AT_WORK
