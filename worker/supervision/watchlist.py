"""What an owner remembers of the jobs at its engine between ticks; the records are the truth, and this only saves reading them all."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from worker.jobs.model import Job
from worker.jobs.states import AT_ENGINE, State
from worker.ports import Engine, Services
from worker.supervision.diff import Patience, Terms, Watched, remembered
from worker.supervision.leftovers import Leftovers


class Watchlist:
    """By handle, for one engine; with it goes what is looked after once all bytes are here (`leftovers`)."""

    def __init__(self, services: Services, engine: Engine, leftovers: Leftovers, patience: Patience) -> None:
        self._services = services
        self._engine = engine
        self._leftovers = leftovers
        self._patience = patience
        self._watched: dict[str, Watched] = {}

    @property
    def jobs(self) -> Mapping[str, Watched]:
        """By handle."""
        return self._watched

    def renew(self, jobs: Iterable[Job]) -> None:
        """Watch these, and no others; the clocks of those that were watched go on."""
        kept, self._watched = self._watched, {}
        self._leftovers.forget()
        for job in jobs:
            if job.transfer is not None and job.at_attempt:
                handle = self._engine.handle(job.transfer.id, job.transfer.attempt)
                self._remember(handle, job, kept.get(handle))

    def watch(self, jobs: Iterable[Job]) -> None:
        """Remember jobs as their records are now; those that have left the engine are forgotten."""
        for job in jobs:
            if job.transfer is not None:
                self._remember(self._engine.handle(job.transfer.id, job.transfer.attempt), job)

    def keep(self, handle: str, job: Job) -> None:
        """As `watch`, of the job that goes by this handle, whatever its record says of a transfer by now."""
        self._remember(handle, job)

    def drop(self, handles: Iterable[str]) -> None:
        """Forget what the engine has forgotten."""
        for handle in handles:
            self._watched.pop(handle, None)

    def _remember(self, handle: str, job: Job, kept: Watched | None = None) -> None:
        kept = kept or self._watched.pop(handle, None)
        self._leftovers.remember(handle, job)
        here = job.state in AT_ENGINE or (job.state is State.DONE and job.seeding)
        if here and job.at_attempt:
            kept = kept or remembered(job, time.monotonic(), self._services.store.now, self._patience)
            self._watched[handle] = replace(kept, job=job.id, state=job.state, phase=job.phase, terms=Terms.of(job))
