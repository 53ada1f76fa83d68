"""What the threads of one process know together of a database that does not answer, so that not each of them waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from worker.jobs.errors import Transient


class Outage:
    """Once a call waited in vain, one call at a time finds out whether that is over, and all others fail at once.

    Without it every thread of an API would wait for the whole time-out again and again, its callers in a line behind them.

    Args:
        try_s: how long a call may take to find out; after that the next one tries.
    """

    def __init__(self, try_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._try_s = try_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._error: Transient | None = None
        self._tried_by, self._tried_until = 0, 0.0

    def check(self) -> None:
        """Return when a call may be made; its end is to be told to `note`. Raises Transient like the call that waited in vain."""
        with self._lock:
            if self._error is None:
                return
            now = self._monotonic()
            if now < self._tried_until:
                raise Transient(self._error.service, self._error.detail)
            self._tried_by, self._tried_until = threading.get_ident(), now + self._try_s

    def note(self, error: Transient | None) -> None:
        """A call of this thread ended: with this error after it waited in vain, or in any other way."""
        with self._lock:
            if error is None:
                self._error = None
            elif self._error is None or self._tried_by == threading.get_ident():
                self._error, self._tried_until = error, 0.0  # others that began before it say nothing new
