"""Jobs at an engine that cannot be asked: what their users want of them is done without it, and who can go on elsewhere departs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from worker import sharing
from worker.jobs.directories import ONE_FILE
from worker.jobs.events import EventType
from worker.jobs.model import Job
from worker.jobs.states import IN_SLOT, Reason, State, Want
from worker.ports import Lease, Services, Step
from worker.supervision import endings
from worker.supervision.relocation.departure import departed


def lets_go(job: Job) -> bool:
    """Whether its download is to be given to who waits for it, if anybody does."""
    return job.want is Want.CANCEL or _stands(job) or (job.want is Want.PAUSE and job.state in IN_SLOT)


def _stands(job: Job) -> bool:
    return job.state is State.PAUSED and job.reason is Reason.DUPLICATE


def follow_wishes(
    services: Services, lease: Lease, jobs: Sequence[Job], why: str, require: Callable[[], None]
) -> tuple[list[Job], list[Job]]:
    """Hand over what others wait for, then cancel what is to be cancelled; idempotent.

    What the engine still has of it is removed when it is back: no record asks for it any more.

    Args:
        require: raises LeaseLost when it would come too late to delete what was fetched.

    Returns:
        the jobs that are still there, new holders among them, and those that were cancelled.
    """
    twice = {job.id for job in sharing.outranked(jobs)}  # a crash came between a hand-over's two writes
    successors, left = sharing.hand_over(services, lease, [job for job in jobs if lets_go(job) or job.id in twice])
    there = [*_without(jobs, left), *successors]
    doomed = [job for job in there if job.want is Want.CANCEL and endings.may_cancel(job)]
    if doomed:
        require()
    cancelled = endings.record_cancelled(services, lease, doomed, f"cancelled; {why}")
    for step in (Step.ADMIT, Step.NOTIFY) if cancelled else ():
        services.nudger.nudge(step)
    return _without(there, doomed), cancelled


def _without(jobs: Sequence[Job], others: Sequence[Job]) -> list[Job]:
    ids = {job.id for job in others}
    return [job for job in jobs if job.id not in ids]


def stranded(job: Job, why: str, at: float, *, able: bool, here: bool = True) -> Job | None:
    """What becomes of a job whose engine cannot be asked; None when it stays as it is. Pure.

    Args:
        why: the engine cannot be asked, in words for the timeline.
        at: wall clock.
        able: another engine may take it now.
        here: this process sees its work directory.
    """
    if job.want is Want.PAUSE and job.state in IN_SLOT:
        return job.moved(State.PAUSED, at, f"paused; {why}", event=EventType.PAUSED, phase=None)
    if _stands(job):
        return job.noted(at, reason=None)  # nobody waits any more
    if not able or job.want is not Want.RUN or job.transfer is None or not job.at_attempt:
        return None
    leaves = job.state in (State.QUEUED, *IN_SLOT) or _cannot_be_finished(job, here=here)
    return departed(job, why, at) if leaves else None


def _cannot_be_finished(job: Job, *, here: bool) -> bool:
    """Whether the engine has to say which files are to be put in place, and has not."""
    reads = job.transfer is not None and job.transfer.size is not None
    return job.state is State.FINISHING and job.result is None and not reads and not (here and job.source.kind in ONE_FILE)
