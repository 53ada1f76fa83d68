"""Places in the event stream: ids of its entries, `<milliseconds>-<number>`, which grow with every event."""

from __future__ import annotations

import re
from dataclasses import dataclass

from worker.jobs.errors import Rejected
from worker.ports import StreamReset

#: The place before all events.
START = "0-0"
#: A change is told this much later at most; a reader that lost its place lists from that much earlier.
TELLING_S = 60.0

_PLACE = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Kept:
    """What the stream holds.

    Attributes:
        first: the oldest entry kept, or None when it is empty.
        last: the newest entry it ever had, `START` when there never was one.
        trimmed: it had entries that it keeps no more.
    """

    first: str | None
    last: str
    trimmed: bool


def checked(place: str) -> str:
    """The place as it was given.

    Raises:
        Rejected: it is none.
    """
    if not _PLACE.fullmatch(place):
        raise Rejected("after", f"{place[:64]!r} is not a place in the event stream", fix="pass on what the last read returned")
    return place


def require(place: str, kept: Kept, now: float) -> None:
    """Return when every event behind the place is still in the stream.

    A place that was handed out is the id of an entry, or `START`. One outside of what is kept was trimmed, or belongs to a
    stream that is gone; either way events may be missing behind it.

    Args:
        now: wall clock.

    Raises:
        StreamReset: events behind the place may be gone.
    """
    inside = kept.first is not None and order(kept.first) <= order(place) <= order(kept.last)
    if not inside and (kept.trimmed or place != START):
        since = min(order(place)[0] / 1_000, now) - TELLING_S
        raise StreamReset(max(0.0, since), kept.last)


def order(place: str) -> tuple[int, int]:
    """A key that sorts places as the stream does."""
    milliseconds, _, number = place.partition("-")
    return int(milliseconds), int(number)
