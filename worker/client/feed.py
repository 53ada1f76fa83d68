"""The event stream as a reader sees it: outages waited out, a lost place told, repeats dropped."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from worker.jobs.errors import Conflict, Rejected, Transient
from worker.jobs.events import EventType
from worker.ports import Coordinator, StreamReset

#: The longest single read; `close` of the client ends an iterator within it.
READ_S = 1.0
READ_EVENTS_MAX = 200
BACK_OFF_FIRST_S = 0.1
BACK_OFF_MAX_S = 5.0

Events = Sequence[Mapping[str, Any]]


class Feed:
    """Reads the event stream until `closed` is set.

    Args:
        coordinator: where the stream is.
        closed: ends every read within `READ_S`.
    """

    def __init__(self, coordinator: Coordinator, closed: threading.Event) -> None:
        self._coordinator = coordinator
        self._closed = closed

    def now(self) -> str:
        """The place behind all that was told. Raises Transient."""
        return self._read(None, 0.0)[1]

    def batches(self, place: str | None, wait_s: float) -> Iterator[tuple[Events, str, str]]:
        """Events, the place before and the place behind them; ends by `close`, or after `wait_s` without any."""
        back_off_s, heard = BACK_OFF_FIRST_S, time.monotonic()
        while not self._closed.is_set():
            left_s = max(0.0, heard + wait_s - time.monotonic())
            try:
                found, behind = self._read(place, min(READ_S, left_s) if place else 0.0)
            except Transient:
                if left_s <= 0:
                    return
                self._closed.wait(min(back_off_s, left_s))
                back_off_s = min(2 * back_off_s, BACK_OFF_MAX_S)
                continue
            except Exception:
                # `close` took the connection away under the read, which then fails in any way.
                if self._closed.is_set():
                    return
                raise
            if found:
                yield found, place or behind, behind
                heard = time.monotonic()
            elif left_s <= 0 and place:
                return
            place, back_off_s = behind, BACK_OFF_FIRST_S

    def tells_of(self, id: str, place: str, deadline: float) -> bool:
        """Whether an event tells of the job before the deadline (monotonic clock).

        Raises:
            Rejected, Conflict: it tells of a refusal.
        """
        while (left_s := deadline - time.monotonic()) > 0 and not self._closed.is_set():
            try:
                found, place = self._read(place, min(READ_S, left_s))
            except Transient:
                self._closed.wait(min(BACK_OFF_FIRST_S, left_s))
                continue
            event = next((event for event in found if event.get("job") == id), None)
            if event is not None:
                return _told(event)
        return False

    def _read(self, place: str | None, wait_s: float) -> tuple[Events, str]:
        try:
            return self._coordinator.read_events(place, READ_EVENTS_MAX, wait_s)
        except StreamReset as reset:
            return ({"type": "reset", "since": reset.since},), reset.after


class Recent:
    """The last ids seen, at most `size`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, id: str | None) -> bool:
        """True unless the id was seen; None never was."""
        if id is None:
            return True
        new = id not in self._ids
        self._ids[id] = None
        if len(self._ids) > self._size:
            self._ids.popitem(last=False)
        return new


def _told(event: Mapping[str, Any]) -> bool:
    """True, for an event of a job that was recorded; raises when it tells of a refusal."""
    if event.get("type") != EventType.REFUSED:
        return True
    field, reason, fix = (str(event.get(name) or "") for name in ("field", "reason", "fix"))
    # The key itself was checked before it was sent: what is wrong with it is that it is taken.
    kind = Conflict if field == "key" else Rejected
    raise kind(field or "request", reason or str(event.get("text")), fix=fix)
