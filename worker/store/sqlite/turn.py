"""Waiting to write while other processes do: whoever waits looks again soon, and the more often the longer he has waited.

SQLite's own waiting looks less and less often, every 100 ms in the end. Among several busy writers the one that has waited longest then
has the least chance, and may have none within seconds.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable

#: Between two looks at first: about as long as a write takes.
PAUSE_S = 0.005
#: And at last. A look takes 10 µs.
PAUSE_S_MIN = 0.001
#: The pauses are half as long after this time, a third after twice this time, and so on.
HALVED_AFTER_S = 0.5


def wait_for_turn(
    begin: Callable[[], object],
    within_s: float,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> None:
    """Call `begin` until no other process is in its way.

    Args:
        begin: raises SQLITE_BUSY at once, without waiting.

    Raises:
        sqlite3.Error: another process was in the way for so long, or something else is wrong.
    """
    since = monotonic()
    while True:
        waited_s = monotonic() - since
        try:
            begin()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or waited_s >= within_s:
                raise
        pause_s = max(PAUSE_S_MIN, PAUSE_S / (1 + waited_s / HALVED_AFTER_S))
        sleep(pause_s * (0.5 + chance()))  # those who wait do not look all at once
