"""Progress that is kept back for a moment, so that of each job only the last value is written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from worker import logs
from worker.jobs.errors import LeaseLost, Transient
from worker.jobs.model import Job, Progress
from worker.ports import Lease
from worker.store.meter import Meter

Key = tuple[str, str, int]
Write = Callable[[Mapping[str, Progress], Lease], None]

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Holding:
    """How much is kept back, for how long.

    Attributes:
        rows: jobs whose progress is written at once when so many are kept; `row_bytes`, times these, is the bound in bytes.
        hold_s: no longer than this; what comes first after so long is not kept at all.
        rows_max: kept while the store does not take them; further ones are refused.
    """

    rows: int = 100
    row_bytes: int = 256
    hold_s: float = 1.0
    rows_max: int = 10_000

    def __post_init__(self) -> None:
        """Raises ValueError for a bound that is none."""
        if self.rows < 1 or self.rows_max < self.rows:
            raise ValueError(f"rows is {self.rows} and rows_max {self.rows_max}; keep at least 1, and no more at most than at all")


@dataclass(slots=True)
class _Held:
    lease: Lease
    rows: dict[str, Progress] = field(default_factory=dict)


class HeldProgress:
    """Progress by lease, since none is written under another's. What is here is shown by `shown` as if it were written.

    Args:
        write: `JobStore.record_progress`.
    """

    def __init__(self, write: Write, bounds: Holding, meter: Meter) -> None:
        self._write = write
        self._bounds = bounds
        self._meter = meter
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # of two writes of a job's progress the later one stays
        self._held: dict[Key, _Held] = {}
        self._written_at: dict[Key, float] = {}
        self._timer: threading.Timer | None = None
        self._closed = False

    def put(self, rows: Mapping[str, Progress], lease: Lease) -> None:
        """Write the rows, at once when nothing was for a moment, and else soon.

        Raises:
            LeaseLost: when it is written at once and the lease is lost; later that drops it.
            Transient: when it is written at once and the store does not answer, or too much is kept already.
        """
        key, now = key_of(lease), time.monotonic()
        with self._lock:
            self._written_at = {each: at for each, at in self._written_at.items() if now - at < self._bounds.hold_s}
            self._outdate(key, rows.keys())
            direct = not rows or self._closed or (key not in self._written_at and key not in self._held)
            if not direct:
                self._keep(key, rows, lease)
            full = sum(len(held.rows) for held in self._held.values()) >= self._bounds.rows
        if direct:
            with self._writing:
                self._record(rows, lease)
        elif full:
            self.flush()

    def shown(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs with the progress that is kept for them; that of one that has ended, or went to another engine, is never written."""
        if not self._held:
            return list(jobs)
        with self._lock:
            kept = {id: (row, held.lease.engine) for held in self._held.values() for id, row in held.rows.items()}
        return [replace(job, progress=kept[job.id][0]) if job.id in kept and _is_of(job, kept[job.id][1]) else job for job in jobs]

    def flush_of(self, ids: Collection[str]) -> None:
        """Write what is kept of these jobs, and all that is kept with it. Raises as `flush`."""
        if self._held and (keys := [key for key, held in list(self._held.items()) if not held.rows.keys().isdisjoint(ids)]):
            self.flush(keys)

    def flush(self, keys: Iterable[Key] | None = None) -> None:
        """Write what is kept, under these leases or all; what a lost lease leaves is dropped.

        Raises:
            Transient: the store does not answer; it is kept on, and tried again after a moment.
        """
        if not self._held:
            return
        with self._writing:
            for key in list(self._held) if keys is None else keys:
                self._flush_one(key)

    def close(self) -> None:
        """Write what is kept, and keep nothing any more; what the store does not take now is lost, and that is logged."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
        self._flush_or_log()

    def _outdate(self, key: Key, ids: AbstractSet[str]) -> None:
        """Drop what is kept of these jobs under other leases: they went to another engine since. With the lock held."""
        for other, held in list(self._held.items()):
            if other != key and (old := held.rows.keys() & ids):
                for id in old:
                    del held.rows[id]
                self._meter.buffered(-len(old))
                if not held.rows:
                    del self._held[other]

    def _keep(self, key: Key, rows: Mapping[str, Progress], lease: Lease) -> None:
        """Take the rows in; with the lock held."""
        fresh = len(rows.keys() - self._held[key].rows.keys()) if key in self._held else len(rows)
        kept = sum(len(each.rows) for each in self._held.values())
        if kept + fresh > max(self._bounds.rows_max, len(rows)):
            self._meter.failed("full")
            raise Transient("store", f"the progress of {kept} jobs waits for it; no more is taken")
        held = self._held.setdefault(key, _Held(lease))
        held.lease = lease
        held.rows.update(rows)
        self._meter.buffered(fresh)
        if self._timer is None:
            self._start_timer()

    def _start_timer(self) -> None:
        self._timer = threading.Timer(self._bounds.hold_s, self._on_time)
        self._timer.daemon = True
        self._timer.name = "progress"
        self._timer.start()

    def _on_time(self) -> None:
        self._flush_or_log()
        with self._lock:
            self._timer = None
            if self._held and not self._closed:
                self._start_timer()

    def _flush_or_log(self) -> None:
        try:
            self.flush()
        except Transient as error:
            log.warning("progress is not recorded", jobs=sum(len(held.rows) for held in list(self._held.values())), error=str(error))

    def _flush_one(self, key: Key) -> None:
        """With `_writing` held. Rows stay to be shown until they are written; newer ones that come meanwhile stay longer."""
        with self._lock:
            held = self._held.get(key)
            rows, lease = (dict(held.rows), held.lease) if held else ({}, None)
        if held is None or lease is None:
            return
        try:
            self._record(rows, lease)
        except LeaseLost as error:
            self._meter.failed("dropped")
            log.info("progress under a lost lease is dropped", lease=lease.name, jobs=len(rows), error=str(error))
        except Transient:
            self._meter.failed("raised")
            raise
        with self._lock:
            for id, row in rows.items():
                if held.rows.get(id) is row:
                    del held.rows[id]
                    self._meter.buffered(-1)
            if not held.rows and self._held.get(key) is held:
                del self._held[key]

    def _record(self, rows: Mapping[str, Progress], lease: Lease) -> None:
        begun = time.monotonic()
        try:
            self._write(rows, lease)
        finally:
            now = time.monotonic()
            self._meter.written(len(rows), now - begun)
            with self._lock:
                self._written_at[key_of(lease)] = now


def _is_of(job: Job, engine: str | None) -> bool:
    """Whether progress is written that the owner of this engine, or of none, tells of the job."""
    return not job.terminal and (engine is None or (job.transfer is not None and job.transfer.engine == engine))


def key_of(lease: Lease) -> Key:
    """What a store tells leases apart by; `until` moves."""
    return lease.name, lease.owner, lease.token
