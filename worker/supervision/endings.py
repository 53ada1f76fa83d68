"""The end of a job at its engine: what was fetched of it is deleted, it is counted, and who waited for it is let go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from worker import sharing
from worker.jobs.directories import delete_work
from worker.jobs.events import EventType
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.ports import Change, Lease, Services


def may_cancel(job: Job) -> bool:
    """Whether a job that is to be cancelled has a transfer to end, and is not on its way into place."""
    return job.transfer is not None and not job.terminal and not (job.state is State.FINISHING and job.result is not None)


def record_cancelled(services: Services, lease: Lease, jobs: Sequence[Job], text: str = "cancelled") -> list[Job]:
    """Delete what was fetched of jobs whose engine has forgotten them, or cannot be asked, and record that they are cancelled.

    Returns:
        the records that were written.
    """
    if not jobs:
        return []
    for job in jobs:
        delete_files(services, job)  # before the record says that nothing is left
    services.failpoints.hit("cancel.deleted")
    at = services.clock.time()
    applied = services.store.apply([Change(job, _cancelled(job, at, text)) for job in jobs], lease)
    ended = [(old.transfer, a.job) for old, a in zip(jobs, applied, strict=True) if a.won and a.job and old.transfer]
    for _, job in ended:
        services.metrics.ended.labels(job.state, "").inc()
    sharing.let_go(services, ended)  # a file that nobody may go on with is downloaded anew by those who waited for it
    return [job for _, job in ended]


def _cancelled(job: Job, at: float, text: str) -> Job:
    return job.moved(State.CANCELLED, at, text, event=EventType.CANCELLED, phase=None, reason=None, transfer=None)


def delete_files(services: Services, job: Job) -> None:
    """Delete what the engines keep of a job, once nobody needs it any more; idempotent."""
    if job.transfer is not None:
        delete_work(job.transfer, {name: engine.directory for name, engine in services.engines.items()})


def let_go(services: Services, jobs: Iterable[Job]) -> None:
    """Count those of the jobs that have ended, and let go of what they held for others."""
    ended = [job for job in jobs if job.terminal]
    for job in ended:
        services.metrics.ended.labels(job.state, job.cause or "").inc()
    sharing.let_go(services, [(job.transfer, job) for job in ended if job.transfer is not None])
