"""What viewers are told of jobs, limits, queue and engines: as JSON, through the cache, the same for each who asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker import logs, pipeline
from worker.jobs.errors import Transient
from worker.jobs.model import Job, Progress
from worker.jobs.states import State
from worker.jobs.view import job_view
from worker.ports import JobFilter, Services
from worker.reads import JOB, JOBS, LIMITS, OVERVIEW, Reads

log = logs.get(__name__)


class Answers:
    """The answers of a process.

    Args:
        counted: the reads count as asked for; those of who only warms do not.
    """

    def __init__(self, services: Services, *, counted: bool = True) -> None:
        self._services, self._reads = services, Reads(services.cache, counted=counted)

    def job(self, id: str) -> bytes | None:
        """A job, its progress and its timeline; None when there is none."""
        return self._reads.job(id, lambda: next(iter(self.views(list(self._services.store.get([id]).values()))), None))

    def jobs(self, user: str | None, states: Sequence[str] | None, limit: int, cursor: str | None = None) -> bytes:
        """A page of jobs, newest first."""
        where = JobFilter(user=user, states=tuple(map(State, states)) if states else None)

        def look() -> dict[str, Any]:
            page = self._services.store.page(where, limit, cursor)
            return {"jobs": self.views(page.jobs), "cursor": page.cursor}

        return self._reads.jobs(user, (list(map(str, states)) if states else None, limit, cursor), look)

    def limits(self, user: str, tier: str | None) -> bytes:
        """What a user may have and has."""
        return self._reads.limits(user, tier, lambda: pipeline.allowance(self._services, user, tier))

    def overview(self) -> dict[str, Any]:
        """What runs and waits, and the engines."""
        seen: dict[str, Any] = self._reads.overview(lambda: pipeline.overview(self._services))
        return seen

    def counts(self) -> Mapping[State, int]:
        """How many jobs are in each state; absent ones have none. For statistics: see `reads.STATISTICS`."""
        counts = self._reads.statistics(lambda: {str(state): count for state, count in self._services.store.counts().items()})
        return {State(state): count for state, count in counts.items()}

    def views(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """The jobs as they are shown, with their progress."""
        progress = self._progress(jobs)
        return [job_view(job, progress.get(job.id)) for job in jobs]

    def _progress(self, jobs: Sequence[Job]) -> dict[str, Progress]:
        by_engine: dict[str, list[str]] = {}
        for job in jobs:
            if job.state is State.DOWNLOADING and job.transfer:
                by_engine.setdefault(job.transfer.engine, []).append(job.id)
        try:
            return self._services.coordinator.progress(by_engine) if by_engine else {}
        except Transient as error:
            log.warning("progress is shown as recorded", error=str(error))
            return {}


def again(services: Services) -> Mapping[str, Callable[..., object]]:
    """How a read is asked once more, by its kind and with what it was asked by (`ports.Hot`), without being counted."""
    answers = Answers(services, counted=False)
    return {JOB.name: answers.job, JOBS.name: answers.jobs, LIMITS.name: answers.limits, OVERVIEW.name: answers.overview}
