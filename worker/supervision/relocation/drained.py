"""What an engine downloads goes to others while an operator drains it with `move`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from worker import logs
from worker.jobs.errors import Transient
from worker.jobs.model import Job
from worker.jobs.states import IN_SLOT, State, Want
from worker.limits import STEP_BATCH
from worker.ports import Change, Engine, ItemStatus, Lease, Poll, Services, able
from worker.supervision.diff import Watched
from worker.supervision.lease import Fenced
from worker.supervision.relocation import departure

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
        """Have some of what is to leave depart; returns the handles it had.

        Raises:
            Transient: a service does not answer; it goes on at the next look.
        """
        if time.monotonic() - self._looked_at < LOOK_S:
            return []
        self._looked_at = time.monotonic()
        said = self._services.drains().get(self._engine.name)
        if said is None or not said.move:
            return []
        running = [handle for handle, known in watched.items() if known.state is State.DOWNLOADING and _at_work(poll, handle)]
        others: Sequence[Engine] = ()
        if running:
            with contextlib.suppress(Transient):  # while nobody knows who else is there, nothing is stopped
                others = departure.others(self._services, self._engine.name)
        gone = self._send(lease, {handle: watched[handle].job for handle in running[:STEP_BATCH]}, others) if others else []
        if gone:
            log.info("downloads are queued again for other engines", engine=self._engine.name, jobs=len(gone))
        return gone

    def _send(self, lease: Lease, by_handle: Mapping[str, str], others: Sequence[Engine]) -> list[str]:
        """Have those of the jobs depart that one of the others can fetch; returns their handles."""
        at, why = self._services.clock.time(), f"engine {self._engine.name} is being drained"
        jobs = self._services.store.get(by_handle.values())
        leaving = [job for job in jobs.values() if _runs(job) and able(job, others)]
        made = departure.record(self._services, lease, [Change(job, departure.departed(job, why, at)) for job in leaving])
        transfers = {change.old.id: change.old.transfer for change in made}
        left = {handle: transfer for handle, id in by_handle.items() if (transfer := transfers.get(id)) is not None}
        departure.forget(self._engine, left)
        return list(left)


def _runs(job: Job) -> bool:
    """Whether an engine has it, and should."""
    return job.state in IN_SLOT and job.transfer is not None and job.want is Want.RUN


def _at_work(poll: Poll, handle: str) -> bool:
    item = poll.items.get(handle)
    return item is not None and item.status in AT_WORK
