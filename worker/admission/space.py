"""Space on the volumes, as admission sees it: what is free and not promised to any job.

    available = free - sum over the jobs that space is kept for of max(0, expected - allocated) - reserve

of each device, however many engines work on it. A job that goes to another device in the end needs room there, too.

Why this never promises a byte twice: admissions follow one another under a fenced lease, so nothing is promised between the
look and the decision. The records are read first and the volume after them. A byte that a job took before its allocation was
recorded is off both; one that it took since is off the free space and still owed; none is off neither. So whatever is
written while we look makes less available, not more. Only a work directory that shrinks while its job goes on (an engine
that begins a file anew) is seen late, at its next measure; the file is then refused by the disk, and the job waits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from worker.jobs.directories import allocated_bytes, standing
from worker.jobs.model import Job
from worker.jobs.needs import expected, promised
from worker.jobs.states import Reason, State
from worker.limits import FREE_BYTES_MIN, SHORT_PATIENCE_S
from worker.notation.sizes import size_text
from worker.ports import EngineSnapshot, Promised, Services

#: A device by its number; the volume of an engine that this process does not see, by the engine's name.
Device = int | str


@dataclass(frozen=True, slots=True)
class Volume:
    """One device; bytes.

    Attributes:
        size: all that files of ours can take; None when this process does not see the volume.
        free: what is free now.
        owed: what was promised to jobs and is not allocated yet.
    """

    size: int | None
    free: int
    owed: int = 0

    def available(self, reserve: int) -> int:
        """What is free and promised to nobody; below 0 when there is less than was promised."""
        return self.free - self.owed - reserve


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a job does not fit.

    Attributes:
        never: it would not fit on the empty volume.
    """

    text: str
    never: bool = False


class Space:
    """The volumes at one moment, and what is promised from then on.

    Args:
        volumes: by device.
        devices: of the engines whose free space is known, by their names.
        reserve: bytes that stay free on each.

    Attributes:
        whole: what is expected in all of the jobs that space is kept for, by engine.
    """

    def __init__(self, volumes: Mapping[Device, Volume], devices: Mapping[str, Device], reserve: int) -> None:
        self._volumes = dict(volumes)
        self._devices = devices
        self._reserve = reserve
        self._held: dict[Device, tuple[str, int]] = {}
        self._first: dict[Device, str] = {}
        self._kept: dict[str, int] = {}
        self.whole: dict[str, int] = {}

    def shortage(self, job: Job, engine: str) -> Shortage | None:
        """Why there is no space for the job on this engine now; None when there is, or when the volume is not known."""
        size = expected(job)
        for device, need in self._needs(job, engine):
            volume = self._volumes[device]
            most = None if volume.size is None else volume.size - self._reserve
            if size is not None and most is not None and size > most:
                return Shortage(too_large(size, most), never=True)
            least = self.least(job, engine)
            if least and most is not None and least + FREE_BYTES_MIN > most:
                return Shortage(
                    f"{size_text(least)} are not all of it, and the disk has room for {size_text(max(0, most))} at most", never=True
                )
            if least and self._first.get(device, job.id) != job.id:
                return Shortage("its size is not known, and another of unknown size, which was asked for earlier, goes first")
            room = volume.available(self._reserve) + self._own(job, device)
            if need > room:
                needing = f"{size_text(least)} are not all of it" if least else _needing(size, need)
                return Shortage(f"{needing}, {size_text(max(0, room))} are free and not promised to other jobs")
            holder, held = self._held.get(device, (job.id, 0))
            if holder != job.id and need > room - held:
                return Shortage(f"{_needing(size, need)}, and a job that has waited longer for {size_text(held)} goes first")
        return None

    def available(self, engine: str) -> int | None:
        """What is free on its volume and promised to nobody; None when that is not known."""
        device = self._devices.get(engine)
        return None if device is None else self._volumes[device].available(self._reserve)

    def take(self, job: Job, engine: str) -> None:
        """Promise the job what it needs there."""
        claimed = self.claim(job, engine) - self.kept(job, engine)
        for device, need in self._needs(job, engine):
            volume = self._volumes[device]
            self._volumes[device] = replace(volume, owed=volume.owed + max(need, claimed) - self._own(job, device))
            if self._held.get(device, ("", 0))[0] == job.id:
                del self._held[device]
            if self._first.get(device) == job.id:
                del self._first[device]

    def hold(self, job: Job, engines: Iterable[str], now: float) -> None:
        """Let nobody pass a job whose turn it is to go first (`goes_first`), on the volume that has most of what it needs.

        Args:
            engines: that may take it.
            now: the store's clock.
        """
        if job.short_since is None or not goes_first(now - job.short_since):
            return
        shortages = {name: self.shortage(job, name) for name in engines if name in self._devices}
        fit = [name for name, shortage in shortages.items() if shortage is None or not shortage.never]
        if not fit:
            return
        best = max(fit, key=lambda name: self._volumes[self._devices[name]].available(self._reserve))
        for device, need in self._needs(job, best):
            self._held.setdefault(device, (job.id, need))

    def prefer(self, job: Job, engines: Iterable[str]) -> None:
        """Let nobody of unknown size who found the disk full start before this one, if it is such a one and can; the first one counts."""
        for name in engines:
            if self.least(job, name) and self.shortage(job, name) is None:
                self._first.setdefault(self._devices[name], job.id)

    def device(self, engine: str) -> Device | None:
        """The device that an engine works on; None when it is not known."""
        return self._devices.get(engine)

    def place(self, out: str) -> Device | None:
        """The device of a directory that the owner named; its volume is looked at when it is met first."""
        found = _seen(standing(out))
        if found is None:
            return None
        self._volumes.setdefault(*found)
        return found[0]

    def least(self, job: Job, engine: str) -> int:
        """Bytes that are known not to be all of a job of unknown size, for it found the disk full with them; 0 for others."""
        if expected(job) is not None:
            return 0
        full = job.state is State.QUEUED and job.reason is Reason.SPACE
        return max(job.least, self.kept(job, engine) if full else 0)

    def claim(self, job: Job, engine: str) -> int:
        """Bytes to be kept for a job of unknown size that found the disk full: as much again as it had, if there is so much.

        So those that wait as it does are not started beside it, to fill with it what was made free for one of them.
        """
        here, least = self._devices.get(engine), self.least(job, engine)
        if here is None or not least:
            return 0
        room = self._volumes[here].available(self._reserve) + self._own(job, here)
        return self.kept(job, engine) + min(max(0, room), max(least, FREE_BYTES_MIN))

    def takes(self, job: Job, engine: str) -> int:
        """Bytes it takes there from the start; of unknown size a byte more than there are, and more once it found the disk full."""
        size = expected(job)
        if size is not None:
            return size
        least = self.least(job, engine)
        return max(least, self.kept(job, engine)) + (FREE_BYTES_MIN if least or job.reason is Reason.SPACE else 1)

    def include(self, kept: Iterable[Promised]) -> None:
        """Take off what was promised before. Of a volume that is not seen nothing counts as allocated."""
        for row in kept:
            self.whole[row.engine] = self.whole.get(row.engine, 0) + row.whole
            here = self._devices.get(row.engine)
            if here is not None:
                self._owe(here, row.whole if isinstance(here, str) else row.owed)
            there = self.place(row.out) if row.out is not None else None
            if there is not None and there != here:
                self._owe(there, row.whole)

    def _owe(self, device: Device, size: int) -> None:
        self._volumes[device] = replace(self._volumes[device], owed=self._volumes[device].owed + size)

    def _needs(self, job: Job, engine: str) -> list[tuple[Device, int]]:
        """What the job needs of which device."""
        here, whole = self._devices.get(engine), self.takes(job, engine)
        needs = [] if here is None else [(here, max(0, whole - self.kept(job, engine)))]
        there = self.place(job.out) if job.out is not None else None
        return needs if there in (None, here) else [*needs, (there, whole)]

    def kept(self, job: Job, engine: str) -> int:
        """What lies in the engine's work directory of the job, as it is now where it can be seen."""
        if job.transfer is None or job.transfer.engine != engine or engine not in self._devices:
            return 0
        if isinstance(self._devices[engine], str):
            return job.progress.allocated
        if job.id not in self._kept:
            self._kept[job.id], _ = allocated_bytes(job.transfer.directory)
        return self._kept[job.id]

    def _own(self, job: Job, device: Device) -> int:
        """What is owed to the job itself there, from before it had to wait."""
        if job.transfer is None or promised(job) is None:
            return 0
        size, here = expected(job), self._devices.get(job.transfer.engine)
        if size is None:
            size = promised(job) or 0
        if device == here:
            return size if isinstance(here, str) else max(0, size - job.progress.allocated)
        return size if job.out is not None and device == self.place(job.out) else 0


def look(services: Services, snapshots: Mapping[str, EngineSnapshot]) -> Space:
    """The volumes of the engines as they are now, less what was promised.

    Of a volume that this process does not see it knows what the engine's owner saw last, which is some seconds old.
    """
    kept = services.store.promised()  # before the volumes: see above
    return look_at(services, snapshots, kept)


def look_at(services: Services, snapshots: Mapping[str, EngineSnapshot], kept: Iterable[Promised]) -> Space:
    """The same for promises that are known."""
    volumes: dict[Device, Volume] = {}
    devices: dict[str, Device] = {}
    for name, engine in services.engines.items():
        snapshot = snapshots.get(name)
        if found := _seen(engine.directory):
            devices[name] = found[0]
            volumes.setdefault(*found)
        elif snapshot is not None and snapshot.free_bytes is not None:
            devices[name] = name
            volumes[name] = Volume(None, snapshot.free_bytes)
    space = Space(volumes, devices, services.settings.space_reserve)
    space.include(kept)
    return space


def goes_first(waited_s: float) -> bool:
    """Whether a job that has waited for space for so long is not to be passed any more by those that need less.

    From `SHORT_PATIENCE_S` on, for as long again; then others may pass it for twice as long as it has waited by then, and so
    on, each time for longer: in the end it is not passed for longer than anything takes, and should what it needs be taken
    by others than us for good, the rest is not held up for ever.
    """
    return waited_s >= SHORT_PATIENCE_S and int(math.log2(waited_s / SHORT_PATIENCE_S)) % 2 == 0


def too_large(size: int, most: int) -> str:
    """The words for what never fits."""
    return f"it needs {size_text(size)}, and the disk has room for {size_text(max(0, most))} at most"


def _needing(size: int | None, need: int) -> str:
    return "its size is not known" if size is None else f"needs {size_text(need)}"


def _seen(directory: str | Path) -> tuple[Device, Volume] | None:
    """The device of a directory, and its volume; None when this process does not see it."""
    try:
        device, about = os.stat(directory).st_dev, os.statvfs(directory)
    except OSError:
        return None
    usable = about.f_blocks - about.f_bfree + about.f_bavail  # the file system keeps some for root
    return device, Volume(usable * about.f_frsize, about.f_bavail * about.f_frsize)
