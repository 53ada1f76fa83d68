"""An engine in memory, driven by its test, that keeps every promise of `worker.ports.Engine` and writes real files."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from worker.jobs.errors import Failed, Transient
from worker.jobs.model import Progress, Source, SourceKind
from worker.jobs.states import Cause, Phase
from worker.ports import Fault, Features, FoundFile, Item, ItemStatus, Order, Poll

CONTENT_BYTES = 1_000


def content_of(source: Source) -> bytes:
    """What a source holds unless the test says otherwise: a short text of its own."""
    return hashlib.shake_256(source.uri.encode()).digest(CONTENT_BYTES)


@dataclass(slots=True)
class _Work:
    """What the engine has of one order."""

    order: Order
    path: str
    status: ItemStatus = ItemStatus.WAITING
    done: int = 0
    fault: Fault | None = None
    seeding: bool = False


class FakeEngine:
    """Moves only when told: `advance`, `complete`, `fail`, `restart`, `silent`.

    Safe for several threads, so a supervisor may poll it while the test drives it.

    Args:
        fetch: the content of a source.

    Attributes:
        fetched: bytes taken from each URI; a continued download takes the rest only.
        calls: how often each verb was called.
        refusals: URI -> the fault `submit` answers.
    """

    features = Features(kinds=frozenset(SourceKind), selects_files=True, seeds=True)

    def __init__(self, directory: str, *, name: str = "fake", slots: int = 32, fetch: Callable[[Source], bytes] = content_of) -> None:
        self.name = name
        self.slots = slots
        self.directory = directory
        self.rpc_timeout_s = 0.5
        self.fetched: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.refusals: dict[str, Fault] = {}
        self._fetch = fetch
        self._work: dict[str, _Work] = {}
        self._lock = threading.RLock()
        self._silent = False
        self._starts = 1

    # ---- what an engine promises ----

    def handle(self, transfer: str, attempt: int) -> str:
        """See `Engine.handle`."""
        return f"{self.name}-{transfer}-{attempt}"

    def submit(self, orders: Sequence[Order]) -> list[Fault | None]:
        """See `Engine.submit`."""
        with self._called("submit"):
            return [self._submit(order) for order in orders]

    def poll(self) -> Poll:
        """See `Engine.poll`."""
        with self._called("poll"):
            items = {handle: self._item(handle, work) for handle, work in self._work.items()}
            free = os.statvfs(self.directory)
            return Poll(f"session-{self._starts}", items, free.f_bavail * free.f_frsize, sum(i.progress.speed for i in items.values()))

    def pause(self, handles: Sequence[str]) -> None:
        """See `Engine.pause`."""
        with self._called("pause"):
            for work in self._known(handles):
                if work.status in (ItemStatus.RUNNING, ItemStatus.WAITING):
                    work.status = ItemStatus.PAUSED
            self._fill()

    def remove(self, handles: Sequence[str]) -> list[str]:
        """See `Engine.remove`."""
        with self._called("remove"):
            for handle in handles:
                self._work.pop(handle, None)
            self._fill()
            return list(handles)

    def files(self, handle: str) -> list[FoundFile]:
        """See `Engine.files`."""
        with self._called("files"):
            work = self._work.get(handle)
            if work is None or work.status is not ItemStatus.COMPLETE:
                raise Failed(Cause.INCOMPLETE, f"engine {self.name} does not show {handle} complete")
            return [FoundFile(work.path, os.stat(work.path).st_size)]

    def close(self) -> None:
        """See `Engine.close`."""

    # ---- what the test does ----

    def advance(self, size: int, handle: str | None = None) -> None:
        """Fetch up to `size` bytes for each running transfer, or for this one; whole ones become complete."""
        with self._lock:
            for key, work in list(self._work.items()):
                if handle in (None, key) and work.status is ItemStatus.RUNNING:
                    self._write(work, size)
            self._fill()

    def complete(self, handle: str) -> None:
        """Fetch the rest of a transfer, whatever it waits for."""
        with self._lock:
            self._work[handle].status = ItemStatus.RUNNING
            self.advance(len(self._content(self._work[handle])), handle)

    def fail(self, handle: str, fault: Fault) -> None:
        """End a transfer with a fault."""
        with self._lock:
            self._work[handle].status, self._work[handle].fault = ItemStatus.FAILED, fault
            self._fill()

    def end_seeding(self, handle: str) -> None:
        """The limit of a seeding torrent is reached."""
        with self._lock:
            self._work[handle].seeding = False

    def restart(self, *, keep: bool = True) -> None:
        """Come back as after a crash: with what is unfinished (`keep`) or with nothing; files stay."""
        with self._lock:
            self._starts += 1
            ended = (ItemStatus.COMPLETE, ItemStatus.FAILED)
            self._work = {handle: work for handle, work in self._work.items() if keep and work.status not in ended}

    @contextmanager
    def silent(self) -> Iterator[None]:
        """No call is answered inside."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    # ---- how ----

    @contextmanager
    def _called(self, verb: str) -> Iterator[None]:
        with self._lock:
            self.calls[verb] += 1
            if self._silent:
                raise Transient(f"engine {self.name}", "no answer in time")
            yield

    def _submit(self, order: Order) -> Fault | None:
        if order.source.uri in self.refusals:
            return self.refusals[order.source.uri]
        handle = self.handle(order.transfer, order.attempt)
        for other in [key for key, work in self._work.items() if work.order.directory == order.directory and key != handle]:
            del self._work[other]
        work = self._work.get(handle)
        if work is None or work.status is ItemStatus.FAILED:
            os.makedirs(order.directory, exist_ok=True)
            path = os.path.join(order.directory, order.name or f"{order.transfer}.bin")
            work = self._work[handle] = _Work(order, path, done=os.stat(path).st_size if os.path.exists(path) else 0)
        elif work.status is ItemStatus.PAUSED:
            work.status = ItemStatus.WAITING
        self._fill()
        return None

    def _fill(self) -> None:
        running = sum(work.status is ItemStatus.RUNNING for work in self._work.values())
        for work in self._work.values():
            if work.status is ItemStatus.WAITING and running < self.slots:
                work.status, running = ItemStatus.RUNNING, running + 1

    def _write(self, work: _Work, size: int) -> None:
        content = self._content(work)
        piece = content[work.done : work.done + size]
        with open(work.path, "ab") as file:
            file.write(piece)
        work.done += len(piece)
        self.fetched[work.order.source.uri] += len(piece)
        if work.done >= len(content):
            work.status, work.seeding = ItemStatus.COMPLETE, bool(work.order.seed_ratio)

    def _content(self, work: _Work) -> bytes:
        return self._fetch(work.order.source)

    def _known(self, handles: Sequence[str]) -> list[_Work]:
        return [self._work[handle] for handle in handles if handle in self._work]

    def _item(self, handle: str, work: _Work) -> Item:
        running = work.status is ItemStatus.RUNNING
        progress = Progress(work.done, len(self._content(work)), speed=1 if running else 0, connections=int(running))
        phase = Phase.TRANSFER if running else None
        return Item(handle, work.status, work.order.transfer, progress, phase, work.fault, work.seeding)
