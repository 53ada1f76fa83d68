"""The waiting index as admission keeps it: a Redis order of the store's `queued` records, rebuilt from them when it is lost.

Jobs whose `.torrent` file is not fetched yet, or whose source was not asked for its size or checked, are `queued` and not in it:
the steps `describe` and `probe` find them in the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from worker import logs
from worker.admission.egress import names_hosts
from worker.jobs.errors import Transient
from worker.jobs.model import Job, SourceKind
from worker.jobs.needs import needs_probe, tells_size
from worker.jobs.states import Reason, State
from worker.limits import STEP_BATCH
from worker.ports import JobStore, Services, Step, WaitingJob

PAGE_JOBS = 500

log = logs.get(__name__)


def belongs(job: Job) -> bool:
    """Whether a job has a place in the index."""
    return job.state is State.QUEUED and not job.needs_description and not needs_probe(job) and not job.following


def first_reason(job: Job, *, probing: bool, checking: bool = False, document: bytes | None = None) -> Reason:
    """What a job waits for that was just asked for.

    Args:
        probing: sources are asked for their size.
        checking: names are resolved and judged before an engine gets them.
        document: its `.torrent` file, when it is at hand.
    """
    if job.source.kind is SourceKind.TORRENT and job.description is None:
        return Reason.DESCRIPTION
    if job.probe is not None:
        return Reason.TURN
    asked = probing and tells_size(job.source)
    return Reason.PROBE if asked or (checking and job.guarded and names_hosts(job.source, document)) else Reason.TURN


def announce(services: Services, jobs: Sequence[Job]) -> None:
    """Put queued jobs in the index and nudge the step that is next; the sweep does it when Redis does not answer."""
    waiting = [job for job in jobs if belongs(job)]
    if waiting:
        try:
            services.coordinator.add_waiting([WaitingJob.of(job) for job in waiting])
        except Transient as error:
            log.warning("jobs are recorded, the waiting index is not reachable", jobs=len(waiting), error=str(error))
        services.nudger.nudge(Step.ADMIT)
    if any(job.needs_description for job in jobs):
        services.nudger.nudge(Step.DESCRIBE)
    if any(needs_probe(job) for job in jobs):
        services.nudger.nudge(Step.PROBE)


def rebuild(services: Services) -> int:
    """Add every record that belongs there to the index; idempotent. Returns how many there are."""
    total = 0
    for page in pages(services.store, State.QUEUED):
        waiting = [job for job in page if belongs(job)]
        services.coordinator.add_waiting([WaitingJob.of(job) for job in waiting])
        total += len(waiting)
    return total


def is_whole(services: Services, queued: int, undescribed: int) -> bool:
    """Whether the index has as many jobs as it should.

    Args:
        queued: jobs in this state.
        undescribed: those of them without a description, or not asked for their size yet; at most `STEP_BATCH` of either were
            looked for. When there may be more, an index that has too few jobs passes for whole; beat rebuilds it in any case.
    """
    missing = queued - undescribed - services.coordinator.waiting_size()
    return missing == 0 or (missing > 0 and undescribed >= STEP_BATCH)


def pages(store: JobStore, state: State) -> Iterator[list[Job]]:
    """All jobs in a state, some hundred at a time."""
    after: str | None = None
    while page := store.in_state(state, PAGE_JOBS, after=after):
        yield page
        after = page[-1].id
