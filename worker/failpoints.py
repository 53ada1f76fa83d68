"""Named points between two effects at which a test can stop the process. Off unless `HAUL_FAILPOINT` is set."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable


class FailpointHit(Exception):
    """Raised at a failpoint whose action is `raise`."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal is delivered before this ends


class Failpoints:
    """Points that act on their n-th hit.

    Args:
        spec: `name:action:count`, or `name@subject:action:count` to count the hits of one job only; several with commas. The
            action is taken on hit number `count`, once. Actions: `kill` (SIGKILL to this process), `raise`,
            `slow` (5 s), `hang` (60 s).

    Raises:
        ValueError: the text is not of that form.
    """

    ACTIONS = ("kill", "raise", "slow", "hang")

    def __init__(self, spec: str = "") -> None:
        self._left: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()
        for part in filter(None, spec.split(",")):
            name, action, count = part.split(":") if part.count(":") == 2 else ("", "", "0")
            if action not in self.ACTIONS or not count.isdigit() or int(count) < 1:
                raise ValueError(f"{part!r} is not name:{'|'.join(self.ACTIONS)}:count, or name@subject:…")
            self._left[name] = (action, int(count))

    def hit(self, name: str, *subjects: str) -> None:
        """Pass the point `name`; nothing happens unless the environment named it.

        Args:
            subjects: ids of the jobs that are passing, each of which is a hit of `name@subject`; together they are one of `name`.
        """
        if not self._left:
            return
        for point in (name, *(f"{name}@{subject}" for subject in subjects)):
            self._count(point)

    def _count(self, point: str) -> None:
        if point not in self._left:
            return
        with self._lock:
            action, left = self._left[point]
            self._left[point] = (action, left - 1)
        if left == 1:
            self._act(action, point)

    def _act(self, action: str, point: str) -> None:
        def fail() -> None:
            raise FailpointHit(point)

        actions: dict[str, Callable[[], None]] = {
            "kill": _kill,
            "raise": fail,
            "slow": lambda: time.sleep(5),
            "hang": lambda: time.sleep(60),
        }
        actions[action]()
