"""Invalidations on their way to the other processes: kept until the server has taken them, however long it is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from math import inf

from worker.coordination.bounds import BATCH
from worker.coordination.cache.marks import EVERYTHING
from worker.coordination.cache.shared import CacheBounds
from worker.jobs.errors import Transient

RETRY_S = 0.2


class Outbound:
    """Marks that the server was not told of yet, and the thread that tells it; the thread begins with the first mark.

    Args:
        tell: raises Transient when the server did not take it; safe to repeat.
    """

    def __init__(self, tell: Callable[[Sequence[str]], None], bounds: CacheBounds) -> None:
        self._tell, self._bounds = tell, bounds
        self._changed = threading.Condition()
        self._pending: dict[str, int] = {}
        self._number = 0
        self._thread: threading.Thread | None = None
        self._ends = inf

    def add(self, marks: Sequence[str]) -> None:
        """Tell of these soon. Too many of them become one, of everything."""
        with self._changed:
            self._number += 1
            self._pending.update(dict.fromkeys(marks, self._number))
            if len(self._pending) > self._bounds.pending_max:
                self._pending = {EVERYTHING: self._number}
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cache-outbound", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def holds(self, marks: Collection[str]) -> bool:
        """Whether the server may still have what one of these marks was invalidated for."""
        pending = self._pending
        return bool(pending) and any(mark in pending for mark in marks)

    def wait(self, timeout_s: float) -> bool:
        """Wait until there are none."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Go on for so long at most, then end; idempotent."""
        with self._changed:
            self._ends = min(self._ends, time.monotonic() + timeout_s)
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._tell(list(batch))
            except Transient:
                with self._changed:
                    self._changed.wait_for(lambda: self._ends < inf, RETRY_S)
                if time.monotonic() >= self._ends:
                    return
                continue
            with self._changed:
                for mark, number in batch.items():
                    if self._pending.get(mark) == number:
                        del self._pending[mark]
                self._changed.notify_all()

    def _next(self) -> dict[str, int]:
        """Some that are pending; waits for them, and returns none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._pending) or self._ends < inf)
            return dict(islice(self._pending.items(), BATCH))
