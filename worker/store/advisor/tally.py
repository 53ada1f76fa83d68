"""How often each shape was asked, by whom, and how long it took; in bounded memory, at a few microseconds an operation."""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from worker.doing import current
from worker.store.advisor.operation import Operation, Plan

#: Shapes that are kept; Haul itself has about eighty.
SHAPES_MAX = 256
#: Names of steps and of places that are kept of each.
NAMES_MAX = 16
PLACES_MAX = 4
#: The code that asked is looked for at the first of so many operations.
PLACE_EVERY = 64
#: Of so many different reads one is followed: whether it brings the same answer again.
FOLLOW_ONE_IN = 8
FOLLOWED_MAX = 2_000
#: Once so many of a shape were followed, one read in so many is looked at at all: what repeats goes on to, and who asks most pays least.
#: (A prime: no rhythm of a few reads escapes it.)
FOLLOWED_FIRST = 50
LOOK_ONE_IN = 31
#: An answer that is older counts as new: a cache would have forgotten it.
FOLLOWED_S = 60.0
#: A plan is asked for again after this.
EXPLAIN_EVERY_S = 600.0

SLOW_READ_S = 0.05
SLOW_BATCH_S = 0.2

_STORE = Path(__file__).parents[1]
_ROOT = Path(__file__).parents[3]
_NOT_OURS = ("site-packages", "contextlib.py", "/lib/python", "<frozen", "<string>")


@dataclass(slots=True, eq=False)
class Tally:
    """One shape.

    Attributes:
        repeats: by what was done, how often it was asked at most in one look or request; calls: how often in all.
        followed: reads that were compared with the one before of the same values; same: those that brought the same.
        rows: the most rows or documents one has brought or changed.
    """

    operation: Operation
    count: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    slow: int = 0
    rows: int = 0
    followed: int = 0
    same: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    plan: Plan | None = None
    explain_at: float = 0.0


class Tallies:
    """All shapes of a process; safe for threads."""

    def __init__(self, *, shapes_max: int = SHAPES_MAX, follow_one_in: int = FOLLOW_ONE_IN) -> None:
        self._shapes_max, self._follow_one_in = shapes_max, follow_one_in
        self._lock = threading.Lock()
        self._by_key: dict[Hashable, Tally] = {}
        self._answers: OrderedDict[int, tuple[bytes, float]] = OrderedDict()
        self.dropped = 0

    def of(self, key: Hashable, operation: Callable[[], Operation]) -> Tally | None:
        """The tally of a shape; None when there are too many shapes already."""
        found = self._by_key.get(key)
        if found is None:
            with self._lock:
                if len(self._by_key) >= self._shapes_max:
                    self.dropped += 1
                    return None
                found = self._by_key.setdefault(key, Tally(operation()))
        return found

    def all(self) -> list[Tally]:
        """Those that were asked."""
        with self._lock:
            return list(self._by_key.values())

    def count(self, tally: Tally, seconds: float, rows: int) -> bool:
        """Count one operation, in the thread that asked for it; true when its plan should be asked for."""
        doing = current()
        with self._lock:
            tally.count = count = tally.count + 1
            tally.seconds += seconds
            if seconds > tally.longest:
                tally.longest = seconds
            if seconds > SLOW_READ_S and seconds > (SLOW_READ_S if tally.operation.reads else SLOW_BATCH_S):
                tally.slow += 1
            if rows > tally.rows:
                tally.rows = rows
            if doing is not None:
                times = doing.asked.get(tally, 0) + 1
                doing.asked[tally] = times
                name = doing.name
            else:
                times, name = 1, ""
            if name in tally.calls or len(tally.calls) < NAMES_MAX:
                tally.calls[name] = tally.calls.get(name, 0) + 1
                if name and times > tally.repeats.get(name, 0):
                    tally.repeats[name] = times
            if count % PLACE_EVERY == 1 or times == 10:
                self._place(tally)
            if tally.explain_at > (now := time.monotonic()):
                return False
            tally.explain_at = now + EXPLAIN_EVERY_S
            return True

    def looks(self, tally: Tally) -> bool:
        """True for the reads of a shape of which it is worth the time to ask whether they are followed."""
        return tally.followed < FOLLOWED_FIRST or tally.count % LOOK_ONE_IN == 0

    def follows(self, request: int) -> bool:
        """True for the reads, by a hash of all they ask, whose answers are compared."""
        return request % self._follow_one_in == 0

    def answered(self, tally: Tally, request: int, digest: bytes) -> None:
        """Compare an answer with the one before to the same request."""
        now = time.monotonic()
        with self._lock:
            before = self._answers.pop(request, None)
            self._answers[request] = (digest, now)
            if len(self._answers) > FOLLOWED_MAX:
                self._answers.popitem(last=False)
            tally.followed += 1
            tally.same += before is not None and before[0] == digest and now - before[1] < FOLLOWED_S

    def _place(self, tally: Tally) -> None:
        place = _asker(sys._getframe(2))
        if place and (place in tally.places or len(tally.places) < PLACES_MAX):
            tally.places[place] = tally.places.get(place, 0) + 1


def _asker(frame: FrameType | None) -> str:
    """The first frame of ours outside the store, with the store's method it called: `worker/x.py:12 (needing_owner)`."""
    method, store = "", str(_STORE)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(store):
            method = frame.f_code.co_name
        elif not any(part in path for part in _NOT_OURS):
            called = f" ({method})" if method else ""
            return f"{path.removeprefix(str(_ROOT)).lstrip('/')}:{frame.f_lineno}{called}"
        frame = frame.f_back
    return ""
