"""What follows when an engine died: the jobs it was given shortly before are suspects, and who it died with too often has failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from worker import logs
from worker.jobs.errors import Transient
from worker.jobs.events import EventType
from worker.jobs.model import Job
from worker.jobs.states import Cause, Reason, State, Want
from worker.limits import SUBMIT_WINDOW_S
from worker.ports import Change, Lease, Poll, Services, Step
from worker.supervision import attend, endings
from worker.supervision.again import Again
from worker.supervision.lease import Fenced
from worker.suspects import ALONE, APART, Verdict, accompanied, deaths_after, judge, outlasted, trial_after

#: While suspects wait for their trials admission is told to look so often; afterwards its sweep is enough.
NUDGE_EVERY_S = 2.0

log = logs.get(__name__)


class Deaths:
    """Of one engine, by its owner. A death that nobody saw, as both died at once, only gives a job more tries."""

    def __init__(self, services: Services, engine: Fenced, again: Again, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._engine = engine
        self._again = again
        self._monotonic = monotonic
        self._token = 0
        self._session: str | None = None
        self._seen_at = float("-inf")
        self._trials_end = self._nudged_at = float("-inf")

    def seen(self, lease: Lease, poll: Poll) -> Poll:
        """Look whether the engine is the process it was; returns what it is given.

        Raises:
            Transient: the store does not answer; the death is found again.
            LeaseLost: the engine is another's by now.
        """
        died = self._token == lease.token and self._session not in (None, poll.session)
        if died:
            self._died(lease, poll)
        self._token, self._session, self._seen_at = lease.token, poll.session, self._monotonic()
        if self._seen_at < self._trials_end and self._seen_at - self._nudged_at >= NUDGE_EVERY_S:
            self._nudged_at = self._seen_at
            self._services.nudger.nudge(Step.ADMIT)
        return poll

    def forgive(self, lease: Lease, jobs: Sequence[Job]) -> None:
        """Hold nothing more against those of its jobs that have run well for long."""
        suspects = [job for job in jobs if job.engine_deaths]
        if suspects and self._token == lease.token:
            seen_at, at = self._last_seen(), self._services.clock.time()
            changes = [Change(job, job.noted(at, engine_deaths=0)) for job in suspects if outlasted(job, seen_at)]
            if changes:
                self._services.store.apply(changes, lease)

    def _last_seen(self) -> float:
        return self._services.store.now() - (self._monotonic() - self._seen_at)

    def _died(self, lease: Lease, poll: Poll) -> None:
        jobs = self._services.store.at_engine(self._engine.name)
        seen_at, at, now = self._last_seen(), self._services.clock.time(), self._services.store.now()
        changes = [Change(job, new) for job, new in after_death(jobs, seen_at, at, now)]
        log.warning("the engine was restarted", engine=self._engine.name, given_shortly_before=len(changes))
        if not changes:
            return
        applied = self._services.store.apply(changes, lease)
        self._session = poll.session  # it is not laid to them twice
        left = [(c.old, a.job) for c, a in zip(changes, applied, strict=True) if a.won and a.job is not None]
        left = [(old, job) for old, job in left if old.state is not job.state]
        if left:
            self._let_go(left)

    def _let_go(self, left: Sequence[tuple[Job, Job]]) -> None:
        """Take them from the engine, which may have begun with them by itself, and let others know."""
        jobs = [job for _, job in left]
        for job in jobs:
            if job.state is State.FAILED:
                log.error("it is given up: engines died with it each time", job=job.id, deaths=job.engine_deaths)
        self._again.queue(jobs)
        handles = [self._engine.handle(old.transfer.id, old.transfer.attempt) for old, _ in left if old.transfer is not None]
        try:
            attend.remove_spent(self._services, self._engine, handles)
        except Transient as error:  # what it still has is an orphan
            log.info("suspects are still at the engine", engine=self._engine.name, error=str(error))
        endings.let_go(self._services, jobs)
        trials_s = sum(job.trial_s for job in jobs if job.state is State.QUEUED)
        self._trials_end = max(self._trials_end, self._monotonic()) + trials_s
        for step in (Step.ADMIT, Step.NOTIFY):
            self._services.nudger.nudge(step)


def judged(jobs: Sequence[Job], seen_at: float) -> list[tuple[Job, Verdict]]:
    """What follows the death of an engine for each of its jobs; pure.

    Args:
        seen_at: store clock; when it was last seen alive.
    """
    return [(job, judge(job, seen_at, company=accompanied(job, jobs, seen_at))) for job in jobs]


def after_death(jobs: Sequence[Job], seen_at: float, at: float, now: float) -> list[tuple[Job, Job]]:
    """Those of the jobs of an engine for which something follows from its death, as they were and as they are; pure.

    Once it is known who did it, those who were there too are not to wait until each of them was tried alone.

    Args:
        at: wall clock.
        now: the store's clock.
    """
    found = [(job, verdict) for job, verdict in judged(jobs, seen_at) if verdict is not Verdict.UNSUSPECTED]
    left = [(job, _after(job, verdict, seen_at, at, now)) for job, verdict in found]
    if any(verdict is Verdict.GUILTY for _, verdict in found):
        waiting = [job for job in jobs if job.state is State.QUEUED and job.engine_deaths >= ALONE]
        left += [(job, job.noted(at, engine_deaths=APART)) for job in waiting]
    return left


def _after(job: Job, verdict: Verdict, seen_at: float, at: float, now: float) -> Job:
    if verdict is Verdict.GUILTY:
        return given_up(job, seen_at, at)
    engine = job.transfer.engine if job.transfer else "its engine"
    words = f"{engine} died soon after it was given this job"
    held = held_against(job, seen_at)
    if verdict is Verdict.APART and job.want is Want.RUN:
        text = f"{words}, {held['engine_deaths']} times by now; it is tried apart from others, attempt {job.attempt + 1}"
        again: dict[str, Any] = {"reason": Reason.ENGINE, "message": words, "phase": None, "attempt": job.attempt + 1, "not_before": now}
        return job.moved(State.QUEUED, at, text, **again, **held)
    if job.state is State.DOWNLOADING and job.transfer is not None:  # it begins anew, as if it were handed over now
        held |= {"transfer": replace(job.transfer, submit_until=now + SUBMIT_WINDOW_S)}
    return job.noted(at, words, **held)


def held_against(job: Job, seen_at: float) -> dict[str, Any]:
    """The fields of a suspect after another death."""
    return {"engine_deaths": deaths_after(job, seen_at), "trial_s": trial_after(job, seen_at)}


def given_up(job: Job, seen_at: float, at: float) -> Job:
    """The job that engines died with too often; pure."""
    deaths = deaths_after(job, seen_at)
    message = f"engines died {deaths} times, each time soon after they were given this job"
    data = {"cause": str(Cause.ENGINE), "reason": message}
    over: dict[str, Any] = {"cause": Cause.ENGINE, "message": message, "phase": None, **held_against(job, seen_at)}
    return job.moved(State.FAILED, at, f"failed: {message}", event=EventType.FAILED, data=data, **over)


def carried(job: Job, moved: Job, verdict: Verdict, seen_at: float, at: float) -> Job:
    """What becomes of a job that is about to go on at another engine, for its own went silent: it takes along what is held against it."""
    if verdict is Verdict.UNSUSPECTED or moved.attempt == job.attempt:
        return moved
    return given_up(job, seen_at, at) if verdict is Verdict.GUILTY else replace(moved, **held_against(job, seen_at))
