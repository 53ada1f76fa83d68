"""The time one operation of an adapter has for all its requests together."""

from __future__ import annotations

import time


class Deadline:
    """Runs from its construction."""

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())
