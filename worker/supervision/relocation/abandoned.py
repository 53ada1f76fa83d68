"""Jobs at engines that no process knows any more: they go to other engines, and none is lost.

Whoever knows an engine and supervises it holds its lease. One whose lease nobody has held for `ABANDONED_S`, and which this process does
not know, was taken out of the settings while it had work, or its supervisors are down for longer than a restart takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from worker import logs, sharing
from worker.jobs.directories import delete_work_directory
from worker.jobs.events import EventType
from worker.jobs.model import Job, SourceKind
from worker.jobs.states import IN_SLOT, Reason, State, Want
from worker.limits import LEASE_S, STEP_BATCH
from worker.ports import Engine, Lease, Services, Step
from worker.supervision import settle
from worker.supervision.lease import engine_lease
from worker.supervision.relocation.departure import elsewhere, enlist, queue_elsewhere

ABANDONED_S = 60.0
#: States in which a job gets no further without its engine; one that is `queued` or `paused` is admitted to another.
HELD = IN_SLOT | {State.FINISHING, State.DONE}
#: A single file can be verified without the engine that fetched it.
ONE_FILE = frozenset({SourceKind.HTTP, SourceKind.FTP})

log = logs.get(__name__)


class Abandoned:
    """Looks when the sweeper does; what it remembers is only since when it has seen an engine without anybody."""

    def __init__(self, services: Services, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._monotonic = monotonic
        self._since: dict[str, float] = {}

    def look(self) -> int:
        """Deal with the jobs of engines that have been nobody's for long enough; returns how many moved on.

        While the list of engines cannot be read nothing is done: they may all be in it.

        Raises:
            Transient: a service does not answer; the next look goes on.
        """
        services, now = self._services, self._monotonic()
        if services.pool.fault is not None or not services.engines:
            return 0
        found = services.store.engine_states()
        unknown = sorted(name for name, held in found.items() if name not in services.engines and _stuck(held, services, name))
        self._since = {name: self._since.get(name, now) for name in unknown}
        return sum(self._deal_with(name, now) for name in unknown)

    def _deal_with(self, name: str, now: float) -> int:
        store, owner = self._services.store, f"{self._services.owner}/abandoned"
        lease = store.acquire_lease(engine_lease(name), owner, LEASE_S)
        if lease is None:
            self._since[name] = now  # somebody knows it
            return 0
        try:
            if now - self._since[name] < ABANDONED_S:
                return 0
            jobs = [job for job in store.at_engine(name) if job.state in HELD or job.want is Want.CANCEL]
            return sum(self._move(name, jobs[start : start + STEP_BATCH], lease) for start in range(0, len(jobs), STEP_BATCH))
        finally:
            store.release_lease(lease)

    def _move(self, name: str, jobs: Sequence[Job], lease: Lease) -> int:
        services = self._services
        text = f"engine {name} is not set up any more"
        drained = services.drains()
        others = [engine for other, engine in services.engines.items() if other not in drained]
        left = queue_elsewhere(services, lease, [job.id for job in jobs], others, text)
        for transfer, _ in left:
            delete_work_directory(transfer.directory)
        at = services.clock.time()
        ended = settle.move(services, lease, [job.id for job in jobs], lambda job: _without(job, others, at, text))
        changed = [(job, ended[job.id]) for job in jobs if job.id in ended and ended[job.id].version > job.version]
        self._tidy([(old, new) for old, new in changed if new.state is State.CANCELLED])
        if changed:
            log.warning("jobs were at an engine that nobody knows any more", engine=name, jobs=len(changed), queued=len(left))
            enlist(services, [new for _, new in changed if new.state is State.QUEUED])
            services.nudger.nudge(Step.NOTIFY)
        return len(changed)

    def _tidy(self, cancelled: list[tuple[Job, Job]]) -> None:
        needed = sharing.let_go(self._services, [(old.transfer, new) for old, new in cancelled if old.transfer])
        for old, _ in cancelled:
            if old.transfer is not None and old.transfer.id not in needed:
                delete_work_directory(old.transfer.directory)


def _stuck(held: Mapping[State, int], services: Services, name: str) -> bool:
    return bool(HELD & held.keys()) or any(job.want is Want.CANCEL for job in services.store.needing_owner(name, 1))


def _without(job: Job, others: list[Engine], at: float, text: str) -> Job | None:
    """What becomes of a job that does not go to another engine as it is; None when nothing does."""
    if job.transfer is None or job.transfer.size is not None:
        return None
    if job.state is State.DONE:
        return job.noted(at, f"seeding is over; {text}", seeding=False) if job.seeding else None
    if job.want is Want.CANCEL and not (job.state is State.FINISHING and job.result is not None):
        return job.moved(State.CANCELLED, at, "cancelled", event=EventType.CANCELLED, phase=None, reason=None, transfer=None)
    if job.want is Want.PAUSE and job.state in IN_SLOT:
        return job.moved(State.PAUSED, at, "paused", event=EventType.PAUSED, phase=None)
    here = job.source.kind in ONE_FILE and os.path.isdir(job.transfer.directory)
    if job.state is State.FINISHING and job.result is None and not here and elsewhere(job, others):
        told = f"{text}, and what it fetched cannot be verified; attempt {job.attempt + 1} begins anew elsewhere"
        return job.moved(State.QUEUED, at, told, reason=Reason.ENGINE, attempt=job.attempt + 1, seeding=False)
    return None
