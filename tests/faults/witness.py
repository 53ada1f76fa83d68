"""Sees every effect on the records, the engines and the outside, and says what was wrong about it; asks the product nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worker.engines.fake import content_of
from worker.jobs.content import held
from worker.jobs.model import Job
from worker.jobs.states import IN_SLOT, TRANSITIONS, State
from worker.ports import Lease

#: An admission goes by a count of what ended that is so old at most, in seconds: of the window, of a snapshot, and of its own turn.
AHEAD_SEEN_S = 15 + 2 + 30
#: Reading a clock takes time here.
SLACK_S = 0.5


class Witness:
    """What was seen so far.

    Args:
        slots: of each engine.
        now: the store's clock.
        holds: whether the engine of a job has it.

    Attributes:
        wrong: what must never be, in words.
        jobs: each record as it was written last; `history` all states it had.
        tokens: the largest token of each lease, and `until` the end that its holder was told.
        told: by job, the events that the outside was told, by version.
    """

    def __init__(self, slots: Mapping[str, int], now: Callable[[], float], holds: Callable[[Job], bool]) -> None:
        self.wrong: list[str] = []
        self.jobs: dict[str, Job] = {}
        self.history: dict[str, list[Job]] = {}
        self.tokens: dict[str, int] = {}
        self.until: dict[str, tuple[str, float]] = {}
        self.told: dict[str, dict[int, Mapping[str, Any]]] = {}
        self._slots, self._now, self.holds = slots, now, holds
        self._ends: dict[str, list[float]] = {name: [] for name in slots}

    def require(self, holds: object, what: str) -> None:
        """Write down what does not hold."""
        if not holds:
            self.wrong.append(what)

    # ---- records ----

    def saw(self, job: Job) -> None:
        """A record as it is after a write."""
        old = self.jobs.get(job.id)
        if old is not None and old.version == job.version:
            return
        self.jobs[job.id] = job
        self.history.setdefault(job.id, []).append(job)
        if old is None:
            self.require(job.version == 1 and job.state in (State.QUEUED, State.FAILED), f"{job.id} began as {job.state} {job.version}")
        else:
            self._moved(old, job)

    def holding(self, transfer: str) -> list[Job]:
        """Jobs whose records name this transfer."""
        return [job for job in self.jobs.values() if job.transfer is not None and job.transfer.id == transfer]

    def _moved(self, old: Job, job: Job) -> None:
        move = f"{job.id} went from {old.state} {old.version} to {job.state} {job.version}"
        self.require(job.version == old.version + 1, f"{move}: versions grow by one")
        self.require(old.state is job.state or (old.state, job.state) in TRANSITIONS, f"{move}: there is no such move")
        self.require(old.state is not State.DONE or (job.state, job.result) == (State.DONE, old.result), f"{move}: done never changes")
        self.require(not old.terminal or old.state is job.state or job.attempt == old.attempt + 1, f"{move}: a retry is another attempt")
        taken_over = job.transfer is not None and job.transfer.turn > 0 and old.transfer is None and job.attempt >= old.attempt
        self.require(taken_over or job.attempt in (old.attempt, old.attempt + 1), f"{move}: attempt {job.attempt} after {old.attempt}")
        self.require(job.events[: len(old.events)] == old.events, f"{move}: what happened was rewritten")
        if job.state is State.DONE and old.state is not State.DONE:
            self.require(in_place(job), f"{move}: the file is not in place")
        if job.state is State.CANCELLED and old.transfer:
            others = [other for other in self.holding(old.transfer.id) if other.id != job.id and held(other)]
            self.require(others or not self.holds(old), f"{move}: its engine has it")
        if old.transfer and old.state in (*IN_SLOT, State.PAUSED) and job.state not in IN_SLOT:
            self._ends[old.transfer.engine].append(self._now())
        if (old.state, job.state) == (State.QUEUED, State.SUBMITTING) and job.transfer:
            self._admitted(job.transfer.engine, move)

    def _admitted(self, engine: str, move: str) -> None:
        slots = {job.transfer.id for job in self.jobs.values() if job.state in IN_SLOT and job.transfer and job.transfer.engine == engine}
        live = len(slots)
        ended = sum(self._now() - at <= AHEAD_SEEN_S for at in self._ends[engine])
        self.require(live <= self._slots[engine] + ended, f"{move}: {live} at {engine}, which has {self._slots[engine]} slots")

    # ---- leases ----

    def leased(self, lease: Lease) -> None:
        """A lease was given."""
        owner, until = self.until.get(lease.name, ("", 0.0))
        last, again = self.tokens.get(lease.name, 0), lease.owner == owner
        self.require(lease.token > last or (again and lease.token == last), f"{lease}: the last token was {last}")
        self.require(again or until <= self._now(), f"{lease}: {owner} holds it until {until}")
        self.tokens[lease.name], self.until[lease.name] = lease.token, (lease.owner, lease.until)

    def wrote(self, lease: Lease) -> None:
        """Something was written under this lease."""
        owner, until = self.until[lease.name]
        fresh = (lease.token, lease.owner) == (self.tokens[lease.name], owner) and self._now() <= until + SLACK_S
        self.require(fresh, f"{lease} wrote at {self._now()}; {owner} holds it until {until}, token {self.tokens[lease.name]}")

    # ---- the outside ----

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event was told."""
        id, _, number = str(event["id"]).rpartition(":")
        version, known = int(number), self.told.setdefault(id, {})
        if version in known:
            self.require(known[version] == event, f"{event['id']} was told as {known[version]} and as {event}")
            return
        before = [e.version for e in self.jobs[id].events if e.type and e.version < version]
        self.require(set(before) <= set(known), f"{event['id']} was told, and of {before} only {sorted(known)}")
        known[version] = event


def told_of(job: Job) -> str:
    """A job in few words."""
    lines = "; ".join(f"{event.version} {event.text}" for event in job.events)
    return f"{job.id} {job.state}, wants {job.want}, attempt {job.attempt}, {job.transfer}, {job.result}: {lines}"


def in_place(job: Job) -> bool:
    """Whether the job's result is a file that has its bytes."""
    if job.result is None or not Path(job.result.path).is_file():
        return False
    content = content_of(job.source)
    right = job.sha256 in (None, hashlib.sha256(content).hexdigest())
    return right and job.result.size == len(content) and Path(job.result.path).read_bytes() == content
