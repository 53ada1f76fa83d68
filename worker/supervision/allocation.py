"""What the work directories of one engine take on the disk; measured now and then, for a torrent may have thousands of files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from worker.jobs.directories import ENTRIES_MAX, allocated_bytes, work_directory
from worker.jobs.model import Progress
from worker.ports import Engine, Item
from worker.supervision import settle

#: Between two measures of one directory.
MEASURE_S = 5.0
#: Entries of directories that are looked at in one tick, but for one directory that may have more; the others wait for the next.
LOOK_MAX = 1_000
#: Free space that came back is worth a look by admission from this size on.
GAIN_BYTES = 1024 * 1024


class Allocation:
    """Only ever too little is said, or what was so some seconds ago: then more is kept for a job than it needs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._measured: dict[str, tuple[float, int]] = {}
        self._least_free: int | None = None

    def measured(self, items: Mapping[str, Item]) -> dict[str, Progress]:
        """The progress of items with what each has on the disk; those not looked at for longest are looked at first.

        Args:
            items: all that the engine has of our jobs, by any name.
        """
        now, room = time.monotonic(), LOOK_MAX
        known = {item.transfer: self._measured.get(item.transfer, (float("-inf"), 0)) for item in items.values() if item.transfer}
        for transfer in sorted(known, key=lambda transfer: known[transfer][0]):
            if room <= 0 or now - known[transfer][0] < MEASURE_S:
                break
            size, looked = allocated_bytes(self._directory(transfer), ENTRIES_MAX)
            known[transfer] = (now, size)
            room -= looked + 1
        self._measured = {transfer: entry for transfer, entry in known.items() if entry[0] > float("-inf")}
        return {name: replace(item.progress, allocated=known.get(item.transfer or "", (now, 0))[1]) for name, item in items.items()}

    def final(self, item: Item) -> Progress:
        """The progress of a complete item with what it has on the disk, looked at now."""
        return replace(settle.final(item), allocated=allocated_bytes(self._directory(item.transfer))[0] if item.transfer else 0)

    def gained(self, free: int | None) -> bool:
        """Whether space has come back since the last time it said so."""
        least = self._least_free
        if free is None or least is None or free - least >= GAIN_BYTES:
            self._least_free = free
            return free is not None and least is not None
        self._least_free = min(least, free)
        return False

    def _directory(self, transfer: str) -> str:
        return work_directory(self._engine.directory, transfer, self._engine.name)
