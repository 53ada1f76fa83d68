"""Jobs of one engine that are tried again later: in the waiting index now, and admission is told when their time has come."""

from __future__ import annotations

from collections.abc import Iterable

from worker.jobs.model import Job
from worker.jobs.needs import needs_probe
from worker.jobs.states import State
from worker.limits import ASIDE_S
from worker.ports import Services, Step, WaitingJob


class Again:
    """Only saves time: the sweep finds all of them, later."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._due: list[float] = []

    def queue(self, jobs: Iterable[Job]) -> None:
        """Put those of the jobs that are `queued` in the waiting index, and remember when they are due."""
        found = [job for job in jobs if job.state is State.QUEUED]
        queued = [job for job in found if not needs_probe(job)]
        if len(queued) < len(found):
            self._services.nudger.nudge(Step.PROBE)
        if queued:
            self._due += [job.not_before for job in queued]
            self._services.coordinator.add_waiting([WaitingJob.of(job) for job in queued])

    def look_soon(self) -> None:
        """Have admission look once more: jobs that waited for the engine may have been put aside a moment ago."""
        self._due.append(self._services.store.now() + ASIDE_S)

    def nudge_due(self) -> None:
        """Nudge admission when the time of one has come."""
        if not self._due:
            return
        now = self._services.store.now()
        if min(self._due) <= now:
            self._due = [due for due in self._due if due > now]
            self._services.nudger.nudge(Step.ADMIT)
