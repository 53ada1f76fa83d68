"""What becomes of a job that its engine gave up: it waits, is tried again, goes to another engine, or has failed; pure.

    the engine has it for another job, or the disk is full     waits, as the same attempt; nothing failed
    what is on the disk is of no use                           once more from the start, in a directory of its own
    the engine is at fault, and another one could              there, in a directory of its own
    it may pass, and was not tried too often                   here, after a back-off, from what is on the disk
    anything else                                              failed, with its cause

The first line that fits counts. How often and when is told by `worker.jobs.retries`, by cause.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from worker.jobs.events import EventType
from worker.jobs.model import Job, SourceKind
from worker.jobs.retries import ELSEWHERE_TRIES, POLICIES, TRIES_MAX, span, spread
from worker.jobs.states import Cause, Reason, State, Want
from worker.jobs.tried import Tried, got_further, moves, summary, times, times_anew, with_one_more
from worker.ports import Fault, Services, able
from worker.supervision import settle

#: Of no use once may be bad luck; twice is not.
ANEW_TRIES = 1


@dataclass(frozen=True, slots=True)
class Around:
    """What matters of the world around a job that failed.

    Attributes:
        able: engines that can take it and may, and are given work.
        probes: its source can be asked how long it wants to be left alone.
        give_up_s: so long after its user asked nothing is tried again.
    """

    able: frozenset[str]
    probes: bool = False
    give_up_s: float = float("inf")


def around(services: Services, job: Job, drained: Collection[str]) -> Around:
    """See `Around`; asks nobody.

    Args:
        drained: engines that are given nothing new; a job that is to go elsewhere would come back to the one it has.
    """
    others = [engine for name, engine in services.engines.items() if name not in drained]
    probes = services.settings.probes and job.source.kind is SourceKind.HTTP
    return Around(able(job, others), probes, services.settings.give_up_s)


def failed(job: Job, fault: Fault, at: float, now: float, world: Around) -> Job | None:
    """The job after its engine, or nobody yet, gave it up; None when that changes nothing.

    Args:
        at: wall clock.
        now: the store's clock.
    """
    if job.state not in (State.SUBMITTING, State.DOWNLOADING, State.PAUSED) or job.want is Want.CANCEL:
        return None
    if fault.wait is not None:
        return settle.waits(job, fault, at, now)
    fault = _in_the_middle(job, fault)
    engine = job.transfer.engine if job.transfer else ""
    tries = POLICIES[fault.cause].tries
    anew = fault.anew and not (fault.passing and times(job.tried, fault.cause) < tries)
    tried = with_one_more(job.tried, engine, fault.cause, fault.detail, job.progress.done, anew=anew)
    avoid = (*job.avoid, engine) if fault.elsewhere and engine not in job.avoid else job.avoid
    later = replace(job, tried=tried, avoid=avoid)
    if job.state is State.PAUSED or _too_late(job, at, world):
        words = (
            f"{fault.detail}; it was tried for too long, or too often" if fault.passing and job.state is not State.PAUSED else fault.detail
        )
        return _given_up(job, later, replace(fault, detail=words), at)
    if anew:
        again = times_anew(tried) <= ANEW_TRIES
        return _again(job, later, fault, at, now, "from the start", anew=True) if again else _given_up(job, later, fault, at)
    others = world.able.difference(avoid)
    if fault.elsewhere and others and engine not in job.avoid:
        return _again(job, later, fault, at, now, f"on {' or '.join(sorted(others))}", wait_s=POLICIES[Cause.ENGINE].backoff_s(0))
    if not fault.passing:
        tries = ELSEWHERE_TRIES if others and fault.elsewhere else 0
    if times(tried, fault.cause) - moves(tried, fault.cause) > tries:
        return _given_up(job, later, fault, at)
    return _again(job, later, fault, at, now, "", probe=fault.cause is Cause.BUSY and world.probes)


def _in_the_middle(job: Job, fault: Fault) -> Fault:
    """A server that sent a part of the file can be reached: what ended was the connection, and that is worth more tries."""
    begun = fault.cause is Cause.UNREACHABLE and fault.passing and job.progress.done > 0
    return replace(fault, cause=Cause.INTERRUPTED) if begun else fault


def _too_late(job: Job, at: float, world: Around) -> bool:
    asked_at = next((event.at for event in reversed(job.events) if event.type is EventType.QUEUED), job.created_at)
    return job.failures >= TRIES_MAX or at - asked_at >= world.give_up_s


def _again(
    job: Job,
    later: Job,
    fault: Fault,
    at: float,
    now: float,
    where: str,
    *,
    wait_s: float | None = None,
    anew: bool = False,
    probe: bool = False,
) -> Job:
    """The next attempt, in a while.

    Args:
        later: the job with what was tried.
        where: it is tried, in words; empty for where there is room.
        wait_s: until then; by cause unless given.
        anew: what is on the disk is left behind.
        probe: its source is asked before how long it wants to be left alone.
    """
    if wait_s is None:
        failures = max(1, times(later.tried, fault.cause) - moves(later.tried, fault.cause))
        rest_s = spread((fault.retry_after_s or 0.0) * failures)
        wait_s = max(POLICIES[fault.cause].backoff_s(failures - 1), rest_s)
    changes: dict[str, Any] = {"transfer": None, "handed": job.handed + 1} if anew else {}
    attempt = f"attempt {job.attempt + 1}{f' {where}' if where else ''}"
    return job.moved(
        State.QUEUED,
        at,
        f"{_said(job, fault)}; {attempt} in {span(wait_s)}",
        reason=Reason.PROBE if probe else Reason.SCHEDULE,
        message=fault.detail,
        phase=None,
        attempt=job.attempt + 1,
        failures=1 if got_further(job.tried, later.tried) else job.failures + 1,
        not_before=now + wait_s,
        avoid=later.avoid,
        tried=later.tried,
        **changes,
    )


def _given_up(job: Job, later: Job, fault: Fault, at: float) -> Job:
    message = _verdict(later.tried, fault)
    data = {"cause": str(fault.cause), "reason": message}
    changes: dict[str, Any] = {"avoid": later.avoid, "tried": later.tried}
    return job.moved(
        State.FAILED, at, f"failed: {message}", event=EventType.FAILED, data=data, cause=fault.cause, message=message, phase=None, **changes
    )


def _verdict(tried: tuple[Tried, ...], fault: Fault) -> str:
    """What was said last, or what each engine said when several were tried."""
    engines = {entry.engine for entry in tried}
    return summary(tried) if len(engines) > 1 else fault.detail


def _said(job: Job, fault: Fault) -> str:
    """The engine is named where it matters which one it was."""
    return f"{job.transfer.engine}: {fault.detail}" if job.transfer and (job.avoid or fault.elsewhere) else fault.detail
