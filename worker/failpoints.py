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
        spec: `name:action:count`, several with commas; the action is taken on hit number `count`, once.
            Actions: `kill` (SIGKILL to this process), `raise`, `hang` (60 s).

    Raises:
        ValueError: the text is not of that form.
    """

    ACTIONS = ("kill", "raise", "hang")

    def __init__(self, spec: str = "") -> None:
        self._left: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()
        for part in filter(None, spec.split(",")):
            name, action, count = part.split(":") if part.count(":") == 2 else ("", "", "0")
            if action not in self.ACTIONS or not count.isdigit() or int(count) < 1:
                raise ValueError(f"{part!r} is not name:{'|'.join(self.ACTIONS)}:count")
            self._left[name] = (action, int(count))

    def hit(self, name: str) -> None:
        """Pass the point `name`; nothing happens unless the environment named it."""
        if name not in self._left:
            return
        with self._lock:
            action, left = self._left.get(name, ("", 0))
            self._left[name] = (action, left - 1)
        if left == 1:
            self._act(action, name)

    def _act(self, action: str, name: str) -> None:
        def fail() -> None:
            raise FailpointHit(name)

        actions: dict[str, Callable[[], None]] = {"kill": _kill, "raise": fail, "hang": lambda: time.sleep(60)}
        actions[action]()
