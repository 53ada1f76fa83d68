"""Sees every effect on the records, the engines and the outside, and says what was wrong about it; asks the product nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.engines.fake import FakeEngine, content_of
from worker.jobs.directories import work_directory
from worker.jobs.model import Job, Source, SourceKind
from worker.jobs.states import IN_SLOT, TRANSITIONS, State
from worker.limits import RPC_TIMEOUT_S
from worker.ports import Applied, Change, Fault, Inserted, Item, Lease, Order, Poll
from worker.store.sqlite.store import SqliteStore

#: An admission goes by a count of what ended that is so old at most, in seconds: of the window, of a snapshot, and of its own turn.
AHEAD_SEEN_S = 15 + 2 + 30
#: Reading a clock takes time here.
SLACK_S = 0.5


class Witness:
    """What was seen so far.

    Attributes:
        wrong: what must never be, in words.
        jobs: each record as it was written last; `history` all states it had.
        tokens: the largest token of each lease, and `until` the end that its holder was told.
        told: by job, the events that the outside was told, by version.
    """

    def __init__(self, slots: Mapping[str, int], now: Callable[[], float]) -> None:
        self.wrong: list[str] = []
        self.jobs: dict[str, Job] = {}
        self.history: dict[str, list[Job]] = {}
        self.tokens: dict[str, int] = {}
        self.until: dict[str, tuple[str, float]] = {}
        self.told: dict[str, dict[int, Mapping[str, Any]]] = {}
        self._slots, self._now = slots, now
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

    def _moved(self, old: Job, job: Job) -> None:
        move = f"{job.id} went from {old.state} {old.version} to {job.state} {job.version}"
        self.require(job.version == old.version + 1, f"{move}: versions grow by one")
        self.require(old.state is job.state or (old.state, job.state) in TRANSITIONS, f"{move}: there is no such move")
        self.require(old.state is not State.DONE or (job.state, job.result) == (State.DONE, old.result), f"{move}: done never changes")
        self.require(not old.terminal or old.state is job.state or job.attempt == old.attempt + 1, f"{move}: a retry is another attempt")
        self.require(job.attempt in (old.attempt, old.attempt + 1), f"{move}: attempt {job.attempt} after {old.attempt}")
        self.require(job.events[: len(old.events)] == old.events, f"{move}: what happened was rewritten")
        if job.state is State.DONE and old.state is not State.DONE:
            self.require(in_place(job), f"{move}: the file is not in place")
        if old.transfer and old.state in (*IN_SLOT, State.PAUSED) and job.state not in IN_SLOT:
            self._ends[old.transfer.engine].append(self._now())
        if (old.state, job.state) == (State.QUEUED, State.SUBMITTING) and job.transfer:
            self._admitted(job.transfer.engine, move)

    def _admitted(self, engine: str, move: str) -> None:
        live = sum(job.state in IN_SLOT and job.transfer is not None and job.transfer.engine == engine for job in self.jobs.values())
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

    def wrote(self, lease: Lease | None) -> None:
        """Something was written under this lease."""
        if lease is not None:
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


class Told:
    """A notifier that everybody hears."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        """See `ports.Notifier`."""
        for event in events:
            self._witness.heard(event)


class SeenStore(SqliteStore):
    """Every write is looked at, as the store shows it afterwards."""

    def __init__(self, path: Path, clock: Callable[[], float], witness: Witness) -> None:
        super().__init__(path, clock)
        self._witness = witness

    def _look(self, ids: Iterable[str]) -> None:
        for job in self.get(ids).values():
            self._witness.saw(job)

    def insert(self, jobs: Sequence[Job]) -> list[Inserted]:
        answers = super().insert(jobs)
        self._look([job.id for job in jobs])
        return answers

    def apply(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Applied]:
        answers = super().apply(changes, lease)
        if any(answer.won for answer in answers):
            self._witness.wrote(lease)
        self._look([change.old.id for change in changes])
        return answers

    def record_progress(self, rows: Mapping[str, Any], lease: Lease) -> None:
        super().record_progress(rows, lease)
        self._witness.wrote(lease)

    def acquire_lease(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        lease = super().acquire_lease(name, owner, ttl_s)
        if lease is not None:
            self._witness.leased(lease)
        return lease

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        renewed = super().renew_lease(lease, ttl_s)
        self._witness.leased(renewed)
        return renewed

    def release_lease(self, lease: Lease) -> None:
        super().release_lease(lease)
        if (lease.token, lease.owner) == (self._witness.tokens[lease.name], self._witness.until[lease.name][0]):
            self._witness.until[lease.name] = ("", 0.0)


class SeenEngine(FakeEngine):
    """Every order and every removal is looked at.

    Attributes:
        orphans: handles that no record ever asked for.
    """

    def __init__(
        self, directory: str, witness: Witness, *, name: str, slots: int, now: Callable[[], float], prompt: Callable[[], bool]
    ) -> None:
        super().__init__(directory, name=name, slots=slots)
        self.rpc_timeout_s = RPC_TIMEOUT_S
        self.orphans: set[str] = set()
        self._witness, self._now, self._prompt = witness, now, prompt
        self._shown: Counter[str] = Counter()

    def submit(self, orders: Sequence[Order]) -> list[Fault | None]:
        if self._prompt() and not self._silent:
            for order in orders:
                self._ordered(order)
        return super().submit(orders)

    def _ordered(self, order: Order) -> None:
        job, now = self._witness.jobs.get(order.transfer), self._now()
        what = f"{self.name} was given {order.transfer}, attempt {order.attempt}"
        if job is None or job.transfer is None or (job.transfer.engine, job.attempt) != (self.name, order.attempt):
            self._witness.wrong.append(f"{what}, which no record asks for: {job}")
        elif job.state is State.SUBMITTING:
            ends = now + self.rpc_timeout_s
            self._witness.require(ends <= job.transfer.submit_until + SLACK_S, f"{what} until {ends}, after its window")
        else:
            self._witness.require(job.state is State.DOWNLOADING, f"{what} while it is {job.state}")

    def poll(self) -> Poll:
        poll = super().poll()
        self._shown.update(list(poll.items))
        return poll

    def remove(self, handles: Sequence[str]) -> list[str]:
        removed = super().remove(handles)
        for handle in self.orphans & set(removed):
            self._witness.require(self._shown[handle] >= 2, f"{handle} was removed from {self.name} after {self._shown[handle]} look")
            self.orphans.discard(handle)
        return removed

    def shows(self) -> Mapping[str, Item]:
        """What it has, to those who need not ask."""
        return {handle: self._item(handle, work) for handle, work in self._work.items()}

    def meddle(self, handle: str, how: str) -> None:
        """Somebody pauses the item by hand, or removes it; nothing happens while the engine answers nobody."""
        if self._silent:
            return
        if how == "pause":
            super().pause([handle])
        else:
            super().remove([handle])

    def add_strange(self, number: int, *, ours: bool) -> None:
        """Somebody adds an item by hand, or one that no record asks for; nothing happens while the engine answers nobody."""
        if self._silent:
            return
        transfer: Any = f"orphan{number}" if ours else None
        source = Source(SourceKind.HTTP, f"http://127.0.0.1/strange/{number}")
        directory = work_directory(self.directory, f"orphan{number}", self.name) if ours else f"{self.directory}/by hand"
        super().submit([Order(transfer, number, source, directory)])
        if ours:
            self.orphans.add(self.handle(transfer, number))

    def hang(self, silent: bool) -> None:
        """Answer nobody, or again."""
        self._silent = silent
