"""One batch of an admission: jobs in the order of their turns in, the changes of their records out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from worker import sharing
from worker.admission.decide import TRIED_AGAIN, Admit, EngineView, Reject, Wait, decide
from worker.admission.follow import Leaders
from worker.admission.hosts import hosts_now
from worker.admission.quotas import refused, too_large
from worker.admission.rates import crowded, spend_starts
from worker.admission.space import Space
from worker.admission.standstill import filled
from worker.admission.trials import Trials
from worker.admission.turns import Turns
from worker.admission.views import balance_now
from worker.jobs.directories import work_directory
from worker.jobs.errors import NoRoom
from worker.jobs.model import Job, Progress, Transfer
from worker.jobs.needs import announced, expected
from worker.jobs.states import Reason, State
from worker.jobs.transfer import own_id
from worker.limits import ASIDE_S, SHORT_ASIDE_S, SUBMIT_WINDOW_S
from worker.ports import Change, Services


class Batch:
    """What is decided of each job, with what the jobs before it took.

    Attributes:
        changes: to be written, in this order.
        aside: jobs that wait for something else than the room that is left, each with when it is looked at again.
        anew: the progress of jobs whose bytes are at an engine that is drained, and are fetched again by another.
    """

    def __init__(self, services: Services, views: Mapping[str, EngineView], space: Space, leaders: Leaders, now: float) -> None:
        self.changes: list[Change] = []
        self.aside: list[tuple[Job, float]] = []
        self.anew: dict[str, Progress] = {}
        self._services = services
        self._room = dict(views)
        self._space = space
        self._leaders = leaders
        self._now = now
        self._limits = services.tiers.fresh()
        self._balance = balance_now(services)
        self._hosts = hosts_now(services)
        self._trials = Trials(services, views, now)
        self._starts: list[tuple[Job, Job]] = []
        self._waits: list[tuple[Job, Wait]] = []
        self._follows: list[tuple[Job, str]] = []
        self._turns: dict[str, Turns] = {}

    def sort(self, waiting: Mapping[str, Job], turns: Turns) -> None:
        """Decide of the jobs whose turn it is, one after the other."""
        while (id := turns.next()) is not None:
            if id in waiting and self._decide(waiting[id]):
                turns.admitted()
                self._turns[id] = turns

    def sort_more(self, jobs: Sequence[Job]) -> None:
        """Decide of jobs that are looked at in any case; they take what the others left."""
        for job in jobs:
            self._decide(job)

    def spend(self) -> None:
        """Take the start tokens, once for all; to be called last."""
        starting = [job for job, _ in self._starts]
        without = spend_starts(self._services, starting, self._now)
        later: dict[str, Wait] = {}
        for job, admitted in self._starts:
            if job.id not in without:
                self.changes.append(Change(job, admitted))
                continue
            if job.id in self._turns:
                self._turns[job.id].given_back(job.user)
            self._wait(job, without[job.id], without[job.id].until)
            later |= {admitted.transfer.id: without[job.id]} if admitted.transfer else {}
        if self._balance.counts and len(self._starts) > len(without):
            self._services.coordinator.count_starts(len(self._starts) - len(without))
        spare = any(view.room for view in self._room.values())
        for job, wait in self._waits:
            self._wait(job, wait, self._now + self._aside_s(job) if spare else None)
        self._follow(later)

    def _follow(self, later: Mapping[str, Wait]) -> None:
        """Let jobs wait for what others download; what was to lead and found no token is waited for as it waits itself."""
        at = self._services.clock.time()
        for job, transfer in self._follows:
            if transfer in later:
                self._wait(job, later[transfer], later[transfer].until)
            else:
                self.changes.append(Change(job, sharing.followed(job, transfer, at)))
        self.changes += [Change(job, sharing.asked(job, at)) for job in self._leaders.standing.values()]  # behind those who wait for it

    def _decide(self, job: Job) -> bool:
        """Whether it starts, unless there is no token for it."""
        if job.transfer is None and (refusal := too_large(announced(job), self._limits.of(job.tier, job.user))):
            self.changes.append(Change(job, refused(job, refusal, self._services.clock.time())))
            return False
        if transfer := self._leaders.transfer_for(job):
            self._follows.append((job, transfer))
            return False
        decision = crowded(self._limits, self._room.values()) or decide(job, self._room, self._now, self._space, self._balance)
        if isinstance(decision, Admit):
            decision = self._trials.wait(job) or self._hosts.wait(job) or decision
        if isinstance(decision, Reject):
            self.changes.append(Change(job, self._never(job, decision.text)))
        elif isinstance(decision, Wait):
            self._waits.append((job, decision))
        else:
            self._admit(job, decision)
        return isinstance(decision, Admit)

    def _admit(self, job: Job, decision: Admit) -> None:
        view = self._room[decision.engine]
        self._room[decision.engine] = replace(view, live=view.live + 1, outstanding=view.outstanding + (expected(job) or 0))
        self._balance = self._balance.moved_on()
        admitted = self._submitting(job, decision.engine)
        self._space.take(job, decision.engine)
        self._hosts.took(job)
        self._trials.took(admitted)
        self._leaders.add(admitted)
        self._starts.append((job, admitted))

    def _wait(self, job: Job, wait: Wait, again: float | None) -> None:
        if again is not None:
            self.aside.append((job, again))
        first = wait.reason is Reason.SPACE and job.short_since is None
        if first or job.reason is not wait.reason:
            self.changes.append(Change(job, self._waiting(job, wait, self._now if first else job.short_since)))

    def _aside_s(self, job: Job) -> float:
        """Until a job is looked at again; of many that wait for space those that have waited longest are looked at in any case."""
        waited_s = 0.0 if job.short_since is None else self._now - job.short_since
        return max(ASIDE_S, min(SHORT_ASIDE_S, waited_s / 4))

    def _submitting(self, job: Job, engine: str) -> Job:
        kept = job.transfer if job.transfer and job.transfer.engine == engine else None
        moves = job.transfer is not None and kept is None
        attempt = job.attempt + (moves and job.at_attempt)  # the engine that has this attempt is drained, or gone
        own = own_id(job.id, job.handed, self._services.settings.installation)
        id, turn = (job.transfer.id, job.transfer.turn) if job.transfer else (own, 0)
        directory = kept.directory if kept else work_directory(self._services.engines[engine].directory, id, engine)
        transfer = Transfer(id, engine, attempt, directory, self._now + SUBMIT_WINDOW_S, turn)
        text = None if job.reason in TRIED_AGAIN else f"admitted to {engine}"  # it may come back many times
        if moves:  # what another engine allocated is of no use to this one, on whose volume all of it is owed
            self.anew[job.id] = Progress(0, job.progress.total)
        at, least, claim = self._services.clock.time(), max(job.least, self._space.least(job, engine)), self._space.claim(job, engine)
        changes: dict[str, Any] = {
            "transfer": transfer,
            "attempt": attempt,
            "reason": None,
            "follows": None,
            "least": least,
            "claim": claim,
        }
        return job.moved(State.SUBMITTING, at, text, **changes)

    def _waiting(self, job: Job, wait: Wait, short_since: float | None) -> Job:
        told = job.short_since == short_since or (bool(job.events) and job.events[-1].text.startswith("waits: "))
        text = None if told else wait.text
        return job.noted(self._services.clock.time(), text, reason=Reason(wait.reason), short_since=short_since)

    def _never(self, job: Job, text: str) -> Job:
        """A job that no volume has room for: refused for its size, or failed once it has filled all of one, which is free again then."""
        at = self._services.clock.time()
        if expected(job) is None:
            return filled(job, max(self._space.least(job, name) for name in self._room), text, at)
        return refused(job, NoRoom("size", text, fix="choose a smaller one, or ask the operator for a larger disk"), at)
