"""What a job becomes that cannot be delivered as it is; pure."""

from __future__ import annotations

from worker.jobs.events import EventType
from worker.jobs.model import Job
from worker.jobs.states import Cause, Reason, State

#: Attempts after the first when the disk does not hold what the engine called complete, as after it was restarted.
INCOMPLETE_RETRIES = 2


def is_guest(job: Job) -> bool:
    """True when its files were fetched for another job, in whose work directory it reads them."""
    return job.transfer is not None and job.transfer.size is not None


def failed(job: Job, cause: Cause, message: str, at: float) -> Job:
    """Given up, with a cause. A guest leaves the work directory: a retry must not go on from what others read."""
    return job.moved(
        State.FAILED,
        at,
        f"failed: {message}",
        event=EventType.FAILED,
        data={"cause": str(cause), "reason": message},
        cause=cause,
        message=message,
        result=None,
        transfer=None if is_guest(job) else job.transfer,
    )


def unverified(job: Job, cause: Cause, message: str, at: float) -> Job:
    """The disk does not hold what it should: another attempt, or the end, by cause.

    What was begun for another job says nothing about what this one's own source has.
    """
    begun_for_another = job.transfer is not None and job.transfer.turn > 0
    if is_guest(job) or (begun_for_another and cause is Cause.CHECKSUM):
        return alone(job, message, at)
    if cause is not Cause.INCOMPLETE or job.failures >= INCOMPLETE_RETRIES:
        return failed(job, cause, message, at)
    return job.moved(
        State.QUEUED,
        at,
        f"{message}; attempt {job.attempt + 1}",
        reason=Reason.TURN,
        message=message,
        attempt=job.attempt + 1,
        failures=job.failures + 1,
    )


def alone(job: Job, message: str, at: float) -> Job:
    """It downloads by itself, from its own source, and follows nobody any more."""
    return job.moved(
        State.QUEUED,
        at,
        f"what was fetched for another request does not serve: {message}; attempt {job.attempt + 1}",
        reason=Reason.TURN,
        message=message,
        attempt=job.attempt + 1,
        handed=job.handed + 1,
        transfer=None,
        result=None,
        seeding=False,
        follows="",
    )
