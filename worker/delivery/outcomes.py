"""What a job becomes that cannot be delivered as it is; pure."""

from __future__ import annotations

from dataclasses import replace

from worker.jobs.events import EventType
from worker.jobs.model import Job, SourceKind
from worker.jobs.retries import POLICIES
from worker.jobs.states import Cause, Reason, State
from worker.jobs.tried import times, times_anew, with_one_more

#: Their bytes were compared with the torrent's own hashes: fetched again they would be the same.
HASHED = frozenset({SourceKind.MAGNET, SourceKind.TORRENT})


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
    engine = job.transfer.engine if job.transfer is not None else ""
    anew = cause is Cause.CHECKSUM
    tried = with_one_more(job.tried, engine, cause, message, job.progress.done, anew=anew)
    tries = POLICIES[cause].tries if cause is Cause.INCOMPLETE or (anew and job.source.kind not in HASHED) else 0
    if (times_anew(tried) if anew else times(tried, cause)) > tries:
        words = f"{message}; it was fetched {times_anew(tried)} times" if anew and times_anew(tried) > 1 else message
        return replace(failed(job, cause, words, at), tried=tried)
    again = job.moved(
        State.QUEUED,
        at,
        f"{message}; attempt {job.attempt + 1}{', from the start' if anew else ''}",
        reason=Reason.TURN,
        message=message,
        attempt=job.attempt + 1,
        failures=job.failures + 1,
        tried=tried,
    )
    if not anew:
        return again
    avoid = job.avoid if engine in job.avoid else (*job.avoid, engine)
    return replace(again, transfer=None, handed=job.handed + 1, result=None, seeding=False, avoid=avoid)


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
