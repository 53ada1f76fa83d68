"""Jobs at engines that no process knows any more: they go to other engines, and none is lost.

Whoever knows an engine and supervises it holds its lease. One whose lease nobody has held for `ABANDONED_S`, and which this process does
not know, was taken out of the settings while it had work, or its supervisors are down for longer than a restart takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from worker import logs
from worker.jobs.directories import delete_work_directory
from worker.jobs.errors import LeaseLost
from worker.jobs.model import Job
from worker.jobs.states import HELD, State
from worker.ports import Change, Engine, Lease, Services, able
from worker.supervision.lease import Held, engine_lease
from worker.supervision.relocation import departure, stranded

ABANDONED_S = 60.0

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
        held = Held(self._services.store, engine_lease(name), f"{self._services.owner}/abandoned")
        if held.keep() is None:
            self._since[name] = now  # somebody knows it
            return 0
        try:
            return self._relieve(name, held) if now - self._since[name] >= ABANDONED_S else 0
        finally:
            held.release()

    def _relieve(self, name: str, held: Held) -> int:
        services, why, lease = self._services, f"engine {name} is not set up any more", _kept(held)
        jobs = [job for job in services.store.at_engine(name) if job.state in HELD or stranded.lets_go(job)]
        there, cancelled = stranded.follow_wishes(services, lease, jobs, why, held.require)
        others, made = departure.others(services, name), len(cancelled)
        for batch in departure.batches(there):
            made += self._move(batch, others, why, _kept(held))
        if made:
            log.warning("jobs were at an engine that nobody knows any more", engine=name, jobs=made)
        return made

    def _move(self, jobs: Sequence[Job], others: Sequence[Engine], why: str, lease: Lease) -> int:
        at = self._services.clock.time()
        news = [(job, _without_engine(job, others, why, at)) for job in jobs]
        made = departure.record(self._services, lease, [Change(job, new) for job, new in news if new is not None])
        for change in made:
            if departure.departs(change) and change.old.transfer is not None:
                delete_work_directory(change.old.transfer.directory)
        return len(made)


def _without_engine(job: Job, others: Sequence[Engine], why: str, at: float) -> Job | None:
    if job.state is State.DONE:
        return job.noted(at, f"seeding is over; {why}", seeding=False) if job.seeding else None
    here = job.transfer is not None and os.path.isdir(job.transfer.directory)
    return stranded.stranded(job, why, at, able=bool(able(job, others)), here=here)


def _kept(held: Held) -> Lease:
    """Renewed in time, however many there are."""
    if (lease := held.keep()) is None:
        raise LeaseLost("store", "somebody looks after the engine again")
    return lease


def _stuck(held: Mapping[State, int], services: Services, name: str) -> bool:
    return bool(HELD & held.keys()) or any(map(stranded.lets_go, services.store.needing_owner(name, 1)))
