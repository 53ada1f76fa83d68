"""The waiting index as admission keeps it: a Redis order of the store's `queued` records, rebuilt from them when it is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from worker import logs
from worker.jobs.errors import Transient
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.ports import JobStore, Services, Step, WaitingJob

PAGE_JOBS = 500

log = logs.get(__name__)


def announce(services: Services, jobs: Sequence[Job]) -> None:
    """Put queued jobs in the index and nudge admission; the sweep does it when Redis does not answer."""
    if not jobs:
        return
    try:
        services.coordinator.add_waiting([WaitingJob.of(job) for job in jobs])
    except Transient as error:
        log.warning("jobs are recorded, the waiting index is not reachable", jobs=len(jobs), error=str(error))
    services.nudger.nudge(Step.ADMIT)


def rebuild(services: Services) -> int:
    """Add every queued record to the index; idempotent. Returns how many there are."""
    total = 0
    for page in pages(services.store, State.QUEUED):
        services.coordinator.add_waiting([WaitingJob.of(job) for job in page])
        total += len(page)
    return total


def pages(store: JobStore, state: State) -> Iterator[list[Job]]:
    """All jobs in a state, some hundred at a time."""
    after: str | None = None
    while page := store.in_state(state, PAGE_JOBS, after=after):
        yield page
        after = page[-1].id
