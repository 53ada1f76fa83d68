"""The clock of a store that has no server: machine time since boot, anchored once per boot."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from worker.store.sqlite import queries

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the processes of one boot agree on: `offset` turns seconds since boot into store time."""

    boot: str
    offset: float


class BootClock:
    """Reads the machine's time since boot, which counts through suspend and which no change of the wall clock moves.

    Args:
        boot: the boot's id, "" where the system tells none.
        reading: seconds since boot, the same for all processes.
        wall: seconds since the epoch; looked at once per boot.
    """

    def __init__(
        self,
        boot: str | None = None,
        reading: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._boot = boot_id() if boot is None else boot
        self._reading = reading or since_boot
        self._wall = wall

    def anchor(self, known: Anchor | None, latest: float) -> Anchor:
        """The anchor to go by: the known one within its boot, else a new one.

        A new one starts at the wall clock, or at `latest` when the wall clock stands behind it, so store time never
        goes back and every lease of an earlier boot has run out. Without boot ids a boot is new when its
        time would lie before `latest`; a boot that is not noticed so goes on from there, and nothing goes back either.

        Args:
            latest: the highest store time ever written.
        """
        if known and known.boot == self._boot and (self._boot or known.offset + self._reading() >= latest):
            return known
        return Anchor(self._boot, max(self._wall(), latest) - self._reading())

    def at(self, anchor: Anchor) -> Callable[[], float]:
        """Store time under an anchor, as a function to call."""
        reading, offset = self._reading, anchor.offset
        return lambda: offset + reading()


def boot_id() -> str:
    """The id the kernel gave this boot; "" on systems that tell none."""
    try:
        return BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def since_boot() -> float:
    """Seconds since boot, suspend included; `time.monotonic`, also one for all processes, where there is no such clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def known(connection: sqlite3.Connection, clock: BootClock) -> Callable[[], float] | None:
    """The clock of this boot, when the file knows it."""
    boot, offset, latest = connection.execute(queries.ANCHOR).fetchone()
    kept = Anchor(boot, offset) if latest else None
    return clock.at(kept) if kept and clock.anchor(kept, latest) == kept else None


def anchored(connection: sqlite3.Connection, clock: BootClock) -> Callable[[], float]:
    """The clock of this boot; the file is made to know it. To be called inside a writing transaction."""
    boot, offset, latest = connection.execute(queries.ANCHOR).fetchone()
    anchor = clock.anchor(Anchor(boot, offset) if latest else None, latest)
    now = clock.at(anchor)
    connection.execute(queries.SET_ANCHOR, asdict(anchor))
    connection.execute(queries.STAMP, {"now": now(), "changes": 0})
    return now
