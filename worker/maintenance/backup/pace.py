"""How fast a backup may read and write, so that downloads do not suffer, and how far it is."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

import psutil

#: Called now and then with what is being done, how much of it, and of how much (bytes; 0: nobody knows); what it raises ends the work.
Turn = Callable[[str, int, int], None]

#: No sleep is longer, so that a Ctrl-C and the keeping of leases do not wait for it.
NAP_S = 0.25
TURN_S = 0.1
NICE = 10
#: Of one processor, at night. What works in the process of `haul up` takes as much of Python's lock from its steps, ticks and API.
SHARE = 0.1
#: A step that took long, such as one check of a whole file, is made up for by no longer rest.
STEP_S_MAX = 1.0


def silent(doing: str, done: int, total: int) -> None:
    """A `Turn` that shows nothing."""


class Pace:
    """Counts bytes and sleeps when they come faster than allowed, or when they take too much of a processor.

    Args:
        rate: bytes a second; 0 is no bound.
        share: of one processor that the thread may take; 0 is no bound. For work in a process that does other things, too: a nice
            value does not help these, for who holds Python's lock is waited for whoever he is.
    """

    def __init__(self, rate: int = 0, turn: Turn = silent, share: float = 0.0) -> None:
        self._rate, self._turn, self._share = rate, turn, share
        self._due = self._left_at = time.monotonic()
        self._used_s = time.thread_time() if share else 0.0
        self._doing, self._done, self._total = "", 0, 0
        self._told_at = 0.0

    def begin(self, doing: str, total: int = 0) -> None:
        """From now on this is what is done, about so many bytes of it."""
        self._doing, self._done, self._total = doing, 0, total
        self._told_at = 0.0
        self.spend(0)

    def spend(self, count: int) -> None:
        """So many bytes went through, in the thread that made this."""
        self._done += count
        now = time.monotonic()
        if self._rate:
            self._due = max(self._due, now - 1.0) + count / self._rate  # what was not used is not saved up for long
            self._sleep_until(self._due)
        if self._share:
            step_s = time.thread_time() - self._used_s
            self._sleep_until(self._left_at + min(step_s / self._share, STEP_S_MAX))
            self._left_at, self._used_s = time.monotonic(), time.thread_time()
        self._tell()

    def wait(self, why: str) -> None:
        """Nothing goes on for the moment; why is shown with what is being done."""
        if time.monotonic() - self._told_at >= TURN_S:
            self._told_at = time.monotonic()
            self._turn(f"{self._doing} ({why})", self._done, self._total)

    def _sleep_until(self, due: float) -> None:
        while (ahead := due - time.monotonic()) > 0:
            self._tell()
            time.sleep(min(ahead, NAP_S))

    def _tell(self) -> None:
        if time.monotonic() - self._told_at >= TURN_S:
            self._told_at = time.monotonic()
            self._turn(self._doing, self._done, self._total)


def yield_to_others() -> None:
    """Let this thread have processor and disk only when others leave them: for good, so call it in a thread that ends with the work."""
    thread = threading.get_native_id()  # Linux keeps both by thread
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, NICE)
    with contextlib.suppress(OSError, psutil.Error, AttributeError):
        psutil.Process(thread).ionice(psutil.IOPRIO_CLASS_IDLE)
