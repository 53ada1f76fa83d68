"""What went wrong with a job, in words a bot can pass on: what was tried, where, what comes next, and what its user can do; pure."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from worker.jobs.model import Job
from worker.jobs.retries import POLICIES, span
from worker.jobs.states import Cause, Phase, State
from worker.limits import STALLED_S
from worker.settings import Settings


def failed(job: Job) -> str:
    """Why it is given up, how often it was tried, and what can be done."""
    words = f"it failed: {job.message or job.cause}"
    runs = sum(entry.times for entry in job.tried)
    if runs > 1:
        words += f"; it was tried {runs} times{_where(job)}"
    return words + (f"; {POLICIES[job.cause].hint}" if job.cause is not None else "") + _retry(job)


def stalled(job: Job, settings: Settings, at: float, now: float) -> str:
    """Since when nothing comes, and until when that is waited for; empty when something does.

    Args:
        at: wall clock.
        now: the store's clock.
    """
    if job.state is not State.DOWNLOADING or not job.phase_at:
        return ""
    if job.phase is Phase.STALLED:
        quiet_s, limit_s, what, cause = now - job.phase_at + STALLED_S, settings.stall_timeout_s, "no byte", Cause.STALLED
    elif job.phase is Phase.METADATA:
        quiet_s, limit_s, what, cause = now - job.phase_at, settings.metadata_timeout_s, "no description", Cause.METADATA
    else:
        return ""
    then = datetime.fromtimestamp(at + max(0.0, limit_s - quiet_s), ZoneInfo(settings.timezone))
    when = then.strftime("%H:%M" if limit_s < 43_200 else "%d %b %H:%M")
    ends = "tried again later" if _left(job, cause) else "given up"
    return f"{what} for {span(quiet_s)}; {ends} at {when} unless something comes{tried(job)}"


def tried(job: Job) -> str:
    """What went wrong before, to go on from what is said of now; empty when nothing did."""
    if not job.tried:
        return ""
    last = job.tried[-1]
    runs = sum(entry.times for entry in job.tried)
    return f"; {f'{runs} tries before this' if runs > 1 else 'one try before this'}{_where(job)}, the last: {last.detail}"


def so_far(job: Job) -> str:
    """How often and where it was tried, to go on from what went wrong last; empty when nothing did."""
    runs = sum(entry.times for entry in job.tried)
    if not runs:
        return ""
    others = "; other engines go first, where one can take it" if job.avoid else ""
    return f"; {'one try' if runs == 1 else f'{runs} tries'} so far{_where(job)}{others}"


def _where(job: Job) -> str:
    engines = list(dict.fromkeys(entry.engine for entry in job.tried if entry.engine))
    return f" on {' and '.join(engines)}" if engines else ""


def _left(job: Job, cause: Cause) -> bool:
    return sum(entry.times for entry in job.tried if entry.cause is cause) < POLICIES[cause].tries


def _retry(job: Job) -> str:
    """A refused request can not be made again under its key."""
    return "" if job.cause is Cause.REFUSED else "; `retry` starts it again"
