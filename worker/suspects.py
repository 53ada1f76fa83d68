"""Jobs that may be what their engine died of: who is blamed for a death, who is tried apart from others, who is given up; pure.

An engine that dies says nothing, so whatever it was given a short time before is a suspect, and nobody knows which one it was:

    once           counted, and tried again at once with everything else: most engines die of something else
    twice          tried apart, at most `GROUP` of them at a time over all engines
    three times    tried alone, once none of the others was begun with lately
    four times     failed, and those that died with it before are tried in groups again; where jobs that were no suspects began
                   lately, too, they may have done it, and it is tried alone again, up to twice as many deaths

Who is tried apart is blamed only for a death within its trial, which lasts at least twice as long as it took the engine to die; who
outlasts it is a suspect as any other job is. So one that does no harm fails only when its engine is killed from outside within that
short time, after three deaths just as near. Jobs that nothing is held against wait for none of this.

What is not caught: a job whose engine runs for longer than `WINDOW_S` with it each time before it dies.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from worker.jobs.model import Job
from worker.jobs.states import IN_SLOT
from worker.limits import SUBMIT_WINDOW_S
from worker.tries import TRIES_MAX

#: A death so long after an engine was given a job is not laid to it.
WINDOW_S = 60.0
#: From the second death on it is tried apart from others, and from the third on alone.
APART, ALONE = 2, 3
#: Who died twice together are a hundred at worst; in groups their trials take two minutes.
GROUP = 5
#: A trial is no shorter, for the hand-over is a part of it.
TRIAL_S_MIN = 5.0
#: Between two looks at an engine, and what a loaded machine adds to it.
LOOKS_S = 3.0


class Verdict(StrEnum):
    """What follows a death for one job."""

    UNSUSPECTED = "unsuspected"  # it ran well for long
    COUNTED = "counted"  # it goes on where it is
    APART = "apart"  # it is queued again, for a trial
    GUILTY = "guilty"


def handed_at(job: Job) -> float:
    """Store clock; when an engine was given it, or it was admitted a moment before."""
    return job.transfer.submit_until - SUBMIT_WINDOW_S if job.transfer else float("-inf")


def tried_apart(job: Job) -> bool:
    """Whether it may not be at an engine together with every other one of its kind."""
    return job.engine_deaths >= APART


def on_trial(job: Job, now: float) -> bool:
    """Whether an engine has it, and it would be blamed if that died now."""
    return tried_apart(job) and job.state in IN_SLOT and now - handed_at(job) < job.trial_s


def outlasted(job: Job, seen_at: float) -> bool:
    """Whether it had run well for so long, when its engine was last seen alive, that nothing is held against it any more."""
    return bool(job.engine_deaths) and seen_at - handed_at(job) >= max(WINDOW_S, job.trial_s)


def deaths_after(job: Job, seen_at: float) -> int:
    """What its count becomes when its engine dies; 0 for one that it is not laid to.

    Args:
        seen_at: store clock; when the engine was last seen alive.
    """
    ran_s = seen_at - handed_at(job)
    if job.state not in IN_SLOT or ran_s >= WINDOW_S:
        return 0
    if tried_apart(job) and ran_s >= job.trial_s:
        return 1  # its trial is over, and it is suspected as any other
    return job.engine_deaths + 1


def trial_after(job: Job, seen_at: float) -> float:
    """How long its next trial lasts: never shorter than one before, or who waits a little longer each time would not be found."""
    return min(WINDOW_S, max(job.trial_s, TRIAL_S_MIN, 2 * (seen_at - handed_at(job)) + LOOKS_S))


def near(job: Job, now: float) -> bool:
    """Whether it is a suspect that an engine was given lately: its trial may be over, and it may still be what kills."""
    return tried_apart(job) and job.state in IN_SLOT and now - handed_at(job) < WINDOW_S


def accompanied(job: Job, others: Iterable[Job], seen_at: float) -> bool:
    """Whether somebody nothing much was held against was given to the engine lately, too, and may have done it."""
    return any(other is not job and not tried_apart(other) and deaths_after(other, seen_at) for other in others)


def judge(job: Job, seen_at: float, *, company: bool) -> Verdict:
    """What follows for a job when its engine has died.

    Args:
        company: see `accompanied`.
    """
    deaths = deaths_after(job, seen_at)
    if not deaths:
        return Verdict.UNSUSPECTED
    if deaths >= (2 * TRIES_MAX if company else TRIES_MAX):
        return Verdict.GUILTY
    return Verdict.APART if deaths >= APART else Verdict.COUNTED


def may_join(job: Job, others: Iterable[Job], now: float) -> bool:
    """Whether a suspect may be tried now.

    Args:
        others: that are `near`.
    """
    beside = list(others)
    if job.engine_deaths >= ALONE:
        return not beside
    tried = [other for other in beside if on_trial(other, now)]
    return len(tried) < GROUP and all(other.engine_deaths < ALONE for other in tried)
