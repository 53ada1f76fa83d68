"""The store, the engines and the outside of the model's world, where every effect is shown to the witness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.witness import SLACK_S, Witness
from worker.engines.fake import FakeEngine
from worker.jobs.directories import work_directory
from worker.jobs.model import Job, Source, SourceKind
from worker.jobs.states import IN_SLOT, State
from worker.limits import RPC_TIMEOUT_S
from worker.ports import Applied, Change, Fault, Inserted, Item, Lease, Order, Poll
from worker.store.sqlite.store import SqliteStore
from worker.store.wrapped import WrappedStore


class Told:
    """A notifier that everybody hears."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        """See `ports.Notifier`."""
        for event in events:
            self._witness.heard(event)


class SeenStore(WrappedStore):
    """Every write is looked at, as the store shows it afterwards."""

    def __init__(self, path: Path, clock: Callable[[], float], witness: Witness) -> None:
        super().__init__(SqliteStore(path, clock))
        self._witness = witness

    def _look(self, ids: Iterable[str]) -> None:
        for job in self.get(ids).values():
            self._witness.saw(job)

    def insert(self, jobs: Sequence[Job], marks: Sequence[str] | None = None) -> list[Inserted]:
        answers = super().insert(jobs, marks)
        self._look([job.id for job in jobs])
        return answers

    def apply(self, changes: Sequence[Change], lease: Lease | None = None) -> list[Applied]:
        answers = super().apply(changes, lease)
        won = [change for change, answer in zip(changes, answers, strict=True) if answer.won]
        if won and lease:
            self._witness.wrote(lease)
        for change in [] if lease else won:
            moved = change.old.state is not change.new.state
            slots = moved and IN_SLOT & {change.old.state, change.new.state}
            self._witness.require(not slots, f"{change.old.state} became {change.new.state} without a lease")
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
        late: those of orders that were given, or arrived, some time after somebody looked whether they should be.
    """

    def __init__(
        self, directory: str, witness: Witness, *, name: str, slots: int, now: Callable[[], float], prompt: Callable[[], bool]
    ) -> None:
        super().__init__(directory, name=name, slots=slots)
        self.rpc_timeout_s = RPC_TIMEOUT_S
        self.orphans, self.late = set[str](), set[str]()
        self._witness, self._now, self._prompt = witness, now, prompt
        self._shown: Counter[str] = Counter()

    def submit(self, orders: Sequence[Order]) -> list[Fault | None]:
        for order in () if self._silent else orders:
            if self._prompt():
                self._ordered(order)
            else:
                self.late.add(self.handle(order.transfer, order.attempt))
        return super().submit(orders)

    def _ordered(self, order: Order) -> None:
        now, name = self._now(), (order.transfer, self.name, order.attempt)
        what = f"{self.name} was given {order.transfer}, attempt {order.attempt}"
        holders = [job for job in self._witness.holding(order.transfer) if not job.terminal and job.at_attempt]
        asking = [job for job in holders if job.transfer and (job.transfer.id, job.transfer.engine, job.transfer.attempt) == name]
        job = max(asking, key=lambda job: job.transfer.turn if job.transfer else 0, default=None)
        if job is None or job.transfer is None:
            self._witness.wrong.append(f"{what}, which no record asks for: {holders}")
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

    def holds(self, job: Job) -> bool:
        """Whether it has the job, and not by an order that came late."""
        handle = self.handle(job.transfer.id, job.transfer.attempt) if job.transfer else ""
        return handle in self._work and handle not in self.late

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
