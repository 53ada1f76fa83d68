"""Taking a transfer from the engine that has it, so that another engine fetches its job from the start."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from worker.jobs.directories import delete_work_directory
from worker.jobs.errors import Transient
from worker.jobs.model import Job, Progress, Transfer
from worker.jobs.states import IN_SLOT, Reason, State, Want
from worker.ports import Engine, Lease, Services, Step, WaitingJob
from worker.supervision import settle
from worker.supervision.lease import Fenced


def released(job: Job, at: float, text: str) -> Job | None:
    """The job as it waits for another engine, a new attempt and no failure; None unless an engine has it and it should run."""
    if job.state not in IN_SLOT or job.transfer is None or job.want is not Want.RUN:
        return None
    told = f"{text}; attempt {job.attempt + 1} begins anew elsewhere"
    return job.moved(State.QUEUED, at, told, reason=Reason.ENGINE, message=None, phase=None, attempt=job.attempt + 1)


def elsewhere(job: Job, others: Sequence[Engine]) -> bool:
    """Whether one of these engines may fetch it."""
    return any(job.engine in (None, engine.name) and engine.features.beyond(job) is None for engine in others)


def queue_elsewhere(
    services: Services, lease: Lease, ids: Iterable[str], others: Sequence[Engine], text: str
) -> list[tuple[Transfer, Job]]:
    """Queue those jobs again that one of the others may fetch; what the engine and the disk have of them is left to the caller.

    Args:
        text: why, for the timeline.

    Returns:
        the records of the jobs that wait now, each with the transfer that is over.
    """
    at = services.clock.time()
    found = services.store.get(ids).values()
    olds = {job.id: job.transfer for job in found if job.transfer and released(job, at, text) and elsewhere(job, others)}
    if not olds:
        return []
    # Less than is true is promised to nobody: what is allocated has to be got anew, on another volume perhaps.
    services.store.record_progress({job.id: Progress(0, job.progress.total) for job in found if job.id in olds}, lease)
    moved = settle.move(services, lease, olds, lambda job: released(job, at, text) if job.transfer == olds[job.id] else None)
    waiting = [job for job in moved.values() if job.state is State.QUEUED]
    services.failpoints.hit("release.recorded", *(job.id for job in waiting))
    enlist(services, waiting)
    return [(olds[job.id], job) for job in waiting]


def enlist(services: Services, jobs: Sequence[Job]) -> None:
    """Put jobs that wait in the waiting index, and have admission look."""
    if jobs:
        with contextlib.suppress(Transient):  # the sweep finds that the index has too few
            services.coordinator.add_waiting([WaitingJob.of(job) for job in jobs])
        services.nudger.nudge(Step.ADMIT)


def release(
    services: Services, engine: Fenced, lease: Lease, by_handle: Mapping[str, str], others: Sequence[Engine], text: str
) -> list[str]:
    """`queue_elsewhere`; then have the engine forget these jobs, and delete what it fetched of them.

    After a crash in between the engine has an item that no record asks for, which is removed as all of those.

    Args:
        by_handle: jobs by their handles at the engine.

    Returns:
        the handles that no job goes by any more.

    Raises:
        LeaseLost: the engine is not ours any more.
    """
    left = {job.id: transfer for transfer, job in queue_elsewhere(services, lease, by_handle.values(), others, text)}
    spent = [handle for handle, id in by_handle.items() if id in left]
    gone = engine.remove(spent) if spent else []
    engine.require()  # under another owner one of them may have been asked for again, here
    for handle in gone:
        delete_work_directory(left[by_handle[handle]].directory)
    return spent
