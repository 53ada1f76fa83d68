"""Downloads give way before a volume is full: those that outgrow what was promised to them, and any when somebody else fills it.

Admission promises what was announced. A link may lead to a metalink, a server may send more than it said, and of some sources
nobody knows the size: what an engine shows then is written down first and compared with the volume after that, by level, so
whatever is promised meanwhile by an admission or another owner is found by the next look.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import replace

from worker.jobs.directories import ENTRIES_MAX, allocated_bytes, standing, work_directory
from worker.jobs.model import Job, Progress
from worker.jobs.needs import expected, promised
from worker.jobs.states import Cause, Reason, State
from worker.limits import FREE_BYTES_MIN
from worker.notation.sizes import size_text
from worker.ports import Engine, Fault, Item, ItemStatus, Lease, Poll, Services
from worker.supervision.diff import Watched

#: Between two looks at what is promised, while downloads go beyond it; one that begins to is looked at at once.
LOOK_S = 1.0
#: The same while there is more free than the last look found to be needed: what others promise since, on other engines, is seen then.
CALM_S = 10.0
#: With less, a volume is as good as full, and what aria2 has cannot be kept beyond that: it leaves an empty control file.
FULL_BYTES = FREE_BYTES_MIN // 2
AT_WORK = frozenset({ItemStatus.RUNNING, ItemStatus.WAITING})


class Room:
    """What one engine's downloads may still take of its volume."""

    def __init__(self, services: Services, engine: Engine) -> None:
        self._services = services
        self._engine = engine
        self._looked_at = float("-inf")
        self._seen: dict[str, int | None] = {}
        self._needed = 0
        self._counted: frozenset[str] = frozenset()

    def without(self, lease: Lease, watched: Mapping[str, Watched], poll: Poll) -> dict[str, Fault]:
        """Downloads that have to wait for space from now on, each with the reason for its user. Their files stay.

        Of those that outgrew their promises the ones that need most go first, until the rest fits; while it does not, none
        whose size is not known goes on. As much is left to all others as they were promised.
        """
        free, running = poll.free_bytes, _running(watched, poll.items)
        if free is None:
            return {}
        if free < FULL_BYTES and (full := _too_many(running, free)):
            return full
        beyond = {handle: item for handle, item in running.items() if _size(item) > watched[handle].promised}
        if not beyond or not self._due(beyond, watched, free):
            return {}
        self._counted = frozenset(watched)
        self._record(lease, {watched[handle].job: item for handle, item in beyond.items()})
        here = self._here()
        rows = self._services.store.promised()
        elsewhere = sum(row.whole for row in rows if row.engine not in here and row.out is not None and self._is_here(row.out))
        reserved = elsewhere + self._services.settings.space_reserve
        self._needed = reserved + sum(row.owed for row in rows if row.engine in here)
        if free >= self._needed:  # no more is, for what the records tell is some seconds old
            return {}
        owed = self._owed(here)
        self._needed = reserved + sum(owed.values())
        gone = _giving_way(beyond, {handle: owed.get(watched[handle].job, 0) for handle in beyond}, free - sum(owed.values()) - reserved)
        most = self._most()
        return {handle: replace(fault, retry_after_s=0.0) if _size(beyond[handle]) > most else fault for handle, fault in gone.items()}

    def _most(self) -> int:
        """What one download may take of the empty volume; there is no use in waiting with more, and admission says so."""
        try:
            about = os.statvfs(self._engine.directory)
        except OSError:
            return sys.maxsize
        return (about.f_blocks - about.f_bfree + about.f_bavail) * about.f_frsize - self._services.settings.space_reserve

    def _due(self, beyond: Mapping[str, Item], watched: Mapping[str, Watched], free: int) -> bool:
        """Reading what is promised costs as much as there are jobs, so it is not done while it cannot matter.

        What a download of ours takes of its promise is off both what is free and what is needed: as long as more is free than was
        needed at the last look, and than what was handed over since was promised, there is enough.
        """
        shown = {handle: item.progress.total for handle, item in beyond.items()}
        since_s = time.monotonic() - self._looked_at
        if shown.items() <= self._seen.items():
            needed = self._needed + sum(known.promised for handle, known in watched.items() if handle not in self._counted)
            if since_s < LOOK_S or (since_s < CALM_S and free > needed):
                return False
        self._looked_at, self._seen = time.monotonic(), shown
        return True

    def _record(self, lease: Lease, items: Mapping[str, Item]) -> None:
        """Have everybody count what these need."""
        rows: dict[str, Progress] = {}
        for job, item in items.items():
            directory = work_directory(self._engine.directory, item.transfer or "", self._engine.name)
            rows[job] = replace(item.progress, allocated=allocated_bytes(directory, ENTRIES_MAX)[0])
        self._services.store.record_progress(rows, lease)

    def _owed(self, engines: Collection[str]) -> dict[str, int]:
        """What each job will still take of this volume, with its directory looked at now; only asked for when there may be too little."""
        found = {}
        for name in engines:
            for job in self._services.store.at_engine(name):
                if job.transfer is not None and promised(job) is not None:
                    found[job.id] = max(0, _kept(job) - allocated_bytes(job.transfer.directory, ENTRIES_MAX)[0])
        return found

    def _here(self) -> set[str]:
        """The engines on the same device."""
        return {name for name, engine in self._services.engines.items() if name == self._engine.name or self._is_here(engine.directory)}

    def _is_here(self, directory: str) -> bool:
        try:
            return os.stat(standing(directory)).st_dev == os.stat(self._engine.directory).st_dev
        except OSError:
            return False


def _running(watched: Mapping[str, Watched], items: Mapping[str, Item]) -> dict[str, Item]:
    ours = {handle: items[handle] for handle, known in watched.items() if known.state is State.DOWNLOADING and handle in items}
    return {handle: item for handle, item in ours.items() if item.status in AT_WORK and item.progress.done != item.progress.total}


def _size(item: Item) -> int:
    """Bytes it is known to have at least."""
    return max(item.progress.total or 0, item.progress.done)


def _kept(job: Job) -> int:
    size = expected(job)
    return (promised(job) or 0) if size is None else size


def _too_many(running: Mapping[str, Item], free: int) -> dict[str, Fault]:
    """Of what runs, the ones that need most, until the rest can end with what is free."""
    left = {handle: item.progress.total - item.progress.done for handle, item in running.items() if item.progress.total is not None}
    gone = {handle: _fault("there is no space left on the disk") for handle in running.keys() - left.keys()}
    over = sum(left.values()) - free
    for handle in sorted(left, key=lambda handle: -left[handle]):
        if over <= 0:
            break
        gone[handle] = _fault("there is no space left on the disk")
        over -= left[handle]
    return gone


def _giving_way(beyond: Mapping[str, Item], owed: Mapping[str, int], available: int) -> dict[str, Fault]:
    """Pure.

    Args:
        owed: what each will still take, as far as it is known.
        available: what is free and kept for nobody, these included; below 0 when there is too little.
    """
    gone: dict[str, Fault] = {}
    for handle in sorted(beyond, key=lambda handle: (beyond[handle].progress.total is None, -owed[handle])):
        if available >= 0:
            break
        room = f"{size_text(max(0, available + owed[handle]))} are free and not promised to other jobs"
        unknown = beyond[handle].progress.total is None
        gone[handle] = _fault(f"{'its size is not known' if unknown else f'needs {size_text(owed[handle])}'}, {room}")
        available += owed[handle]
    return gone


def _fault(detail: str) -> Fault:
    return Fault(Cause.DISK, True, detail, wait=Reason.SPACE)
