"""An engine in memory, driven by its test, that keeps every promise of `worker.ports.Engine` and writes real files."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from worker.jobs.errors import Failed, Rejected, Transient
from worker.jobs.model import Progress, Source, SourceKind
from worker.jobs.states import Cause, Phase, Reason
from worker.jobs.torrents import Torrent, TorrentFile, read_torrent
from worker.ports import Fault, Features, FoundFile, Item, ItemStatus, Order, Poll

CONTENT_BYTES = 1_000
ENDED = (ItemStatus.COMPLETE, ItemStatus.FAILED)
NAME_BYTES_MAX = 255


def content_of(source: Source) -> bytes:
    """What a source holds unless the test says otherwise: a short text of its own."""
    return hashlib.shake_256(source.uri.encode()).digest(CONTENT_BYTES)


def content_of_file(torrent: Torrent, file: TorrentFile) -> bytes:
    """What a file of a torrent holds unless the test says otherwise: its size in bytes of its own."""
    return hashlib.shake_256(f"{torrent.v1 or torrent.v2}:{file.path}".encode()).digest(file.size)


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    content: bytes

    def have(self) -> int:
        """Bytes of it on the disk."""
        return os.stat(self.path).st_size if os.path.exists(self.path) else 0


@dataclass(slots=True)
class _Work:
    """What the engine has of one order: its files, fetched one after the other."""

    order: Order
    files: list[_File]
    infohashes: frozenset[str]
    status: ItemStatus = ItemStatus.WAITING
    fault: Fault | None = None
    seeding: bool = False
    limit: int | None = None

    def done(self) -> int:
        return sum(file.have() for file in self.files)

    def total(self) -> int:
        return sum(len(file.content) for file in self.files)


class FakeEngine:
    """Moves only when told: `advance`, `complete`, `fail`, `restart`, `silent`.

    Safe for several threads, so a supervisor may poll it while the test drives it.

    Args:
        fetch: the content of a source that is no torrent, and `fetch_file` that of a torrent's file.

    Attributes:
        fetched: bytes taken from each URI; a continued download takes the rest only.
        calls: how often each verb was called.
        refusals: URI -> the fault `submit` answers.
    """

    features = Features(kinds=frozenset(SourceKind), selects_files=True, seeds=True, bittorrent_v2=True)

    def __init__(
        self,
        directory: str,
        *,
        name: str = "fake",
        slots: int = 32,
        weight: int = 1,
        fetch: Callable[[Source], bytes] = content_of,
        fetch_file: Callable[[Torrent, TorrentFile], bytes] = content_of_file,
    ) -> None:
        self.name = name
        self.slots = slots
        self.weight = weight
        self.throttled: int | None = None
        self.directory = directory
        self.rpc_timeout_s = 0.5
        self.fetched: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.refusals: dict[str, Fault] = {}
        self._fetch, self._fetch_file = fetch, fetch_file
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
            speed = sum(item.progress.speed for item in items.values())
            return Poll(f"session-{self._starts}", items, free.f_bavail * free.f_frsize, speed, "fake 1.0")

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

    def throttle(self, limit: int | None) -> int | None:
        """See `Engine.throttle`."""
        with self._called("throttle"):
            self.throttled = limit
            return limit

    def limit(self, limits: Mapping[str, int | None]) -> dict[str, int | None]:
        """See `Engine.limit`."""
        with self._called("limit"):
            live = {handle: work for handle, work in self._work.items() if work.status not in ENDED}
            for handle in limits.keys() & live.keys():
                live[handle].limit = limits[handle]
            return {handle: live[handle].limit for handle in limits if handle in live}

    def files(self, handle: str) -> list[FoundFile]:
        """See `Engine.files`."""
        with self._called("files"):
            work = self._work.get(handle)
            if work is None or work.status is not ItemStatus.COMPLETE:
                raise Failed(Cause.INCOMPLETE, f"engine {self.name} does not show {handle} complete")
            return [FoundFile(file.path, len(file.content)) for file in work.files]

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
            self.advance(self._work[handle].total(), handle)

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
            self._work = {handle: work for handle, work in self._work.items() if keep and work.status not in ENDED}

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
            opened = self._opened(order)
            if isinstance(opened, Fault):
                return opened
            os.makedirs(order.directory, exist_ok=True)
            opened.limit = order.limit
            self._work[handle] = opened
        elif work.status is ItemStatus.PAUSED:
            work.status = ItemStatus.WAITING
        self._fill()
        return None

    def _opened(self, order: Order) -> _Work | Fault:
        if order.source.kind is not SourceKind.TORRENT:
            path = os.path.join(order.directory, order.name or f"{order.transfer}.bin")
            return _Work(order, [_File(path, self._fetch(order.source))], frozenset())
        if order.document is None:
            return Fault(Cause.UNSUPPORTED, False, "the .torrent file was not given")
        try:
            torrent = read_torrent(order.document)
        except Rejected as error:
            return Fault(Cause.SOURCE, False, error.detail)
        if not set(order.select) <= {file.number for file in torrent.files}:
            return Fault(Cause.SOURCE, False, "the torrent has no file of a number that was selected")
        infohashes = frozenset(filter(None, (torrent.v1, torrent.v2)))
        if any(work.infohashes & infohashes for work in self._work.values()):
            return Fault(Cause.ENGINE, True, "the torrent is there for another job", wait=Reason.DUPLICATE)
        wanted = [file for file in torrent.files if not order.select or file.number in order.select]
        return _Work(order, [_File(_path(order.directory, file), self._fetch_file(torrent, file)) for file in wanted], infohashes)

    def _fill(self) -> None:
        running = sum(work.status is ItemStatus.RUNNING for work in self._work.values())
        for work in self._work.values():
            if work.status is ItemStatus.WAITING and running < self.slots:
                work.status, running = ItemStatus.RUNNING, running + 1

    def _write(self, work: _Work, size: int) -> None:
        for file in work.files:
            have = file.have()
            piece = file.content[have : have + size]
            os.makedirs(os.path.dirname(file.path), exist_ok=True)
            with open(file.path, "ab") as target:
                target.write(piece)
            size -= len(piece)
            self.fetched[work.order.source.uri] += len(piece)
        if work.done() >= work.total():
            work.status, work.seeding = ItemStatus.COMPLETE, bool(work.order.seed_ratio)

    def _known(self, handles: Sequence[str]) -> list[_Work]:
        return [self._work[handle] for handle in handles if handle in self._work]

    def _item(self, handle: str, work: _Work) -> Item:
        running = work.status is ItemStatus.RUNNING
        progress = Progress(work.done(), work.total(), speed=1 if running else 0, connections=int(running))
        phase = Phase.TRANSFER if running else None
        return Item(handle, work.status, work.order.transfer, progress, phase, work.fault, work.seeding)


def _path(directory: str, file: TorrentFile) -> str:
    """Where the file of a torrent lies: under its own name if a disk can have it."""
    fits = all(part.isprintable() and len(part.encode()) <= NAME_BYTES_MAX for part in file.path)
    return os.path.join(directory, *(file.path if fits else (f"file {file.number}",)))
