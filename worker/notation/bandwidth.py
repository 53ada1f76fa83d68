"""How many bytes a second all engines may take together, by the hour of the week."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker.notation.sizes import read_size

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = len(DAYS) * DAY_MINUTES
#: A week, and what it is longer when summer time ends in it.
LOOK_AHEAD_MINUTES = WEEK_MINUTES + 2 * 60
#: Less starves every download, and is a typing mistake.
RATE_MIN = 1024
EXAMPLE = "50 MiB; Mon-Fri 08:00-18:00 10 MiB; Sat,Sun 00:00-24:00 unlimited"

_WINDOW = re.compile(r"(?P<days>[A-Za-z,\-]+)\s+(?P<h1>\d\d?):(?P<m1>\d\d)\s*-\s*(?P<h2>\d\d?):(?P<m2>\d\d)\s+(?P<rate>.+)")


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of every week. `text` is what the operator wrote.

    Attributes:
        begin, end: minutes since Monday 00:00; `end` is not part of it and may lie in the next week.
        rate: bytes a second; None for no limit.
    """

    begin: int
    end: int
    rate: int | None
    text: str

    def holds(self, minute: int) -> bool:
        """Whether a minute of the week is in it."""
        return self.begin <= minute < self.end or self.begin <= minute + WEEK_MINUTES < self.end


@dataclass(frozen=True, slots=True)
class Budget:
    """A rate for all the time that no window holds, and the windows, of which no two overlap."""

    rate: int | None = None
    windows: tuple[Window, ...] = ()

    def at(self, local: datetime) -> int | None:
        """Bytes a second at a moment of the operator's time zone; None for no limit."""
        minute = local.weekday() * DAY_MINUTES + local.hour * 60 + local.minute
        return next((window.rate for window in self.windows if window.holds(minute)), self.rate)

    def change_after(self, local: datetime) -> tuple[datetime, int | None] | None:
        """When the rate will be another, and which; None when it never is. Found by asking `at` of each minute, so it knows of summer time.

        Args:
            local: with its time zone.
        """
        if not self.windows:
            return None
        rate, minute = self.at(local), local.astimezone(UTC).replace(second=0, microsecond=0)
        for n in range(1, LOOK_AHEAD_MINUTES):
            then = (minute + timedelta(minutes=n)).astimezone(local.tzinfo)
            if self.at(then) != rate:
                return then, self.at(then)
        return None


def read_budget(text: str) -> Budget | None:
    """What the operator wrote, as in `EXAMPLE`: a rate, then windows of the week with rates of their own, with `;` between.

    A window whose end is not after its begin lasts until the next day.

    Returns:
        None for an empty text: then the engines' own limits are left alone.

    Raises:
        ValueError: it cannot be understood, or two windows overlap; the message names the part and the fix.
    """
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if not parts:
        return None
    base = None if ":" in parts[0] else _rate(parts.pop(0))
    windows = [window for part in parts for window in _windows(part)]
    for n, one in enumerate(windows):
        for other in windows[n + 1 :]:
            if _overlap(one, other):
                raise ValueError(f"{one.text!r} and {other.text!r} overlap; each minute of the week may be in one of them only")
    return Budget(base, tuple(windows))


def _rate(text: str) -> int | None:
    if text.lower() == "unlimited":
        return None
    rate = read_size(text.removesuffix("/s")) or 0
    if rate < RATE_MIN:
        raise ValueError(f"{text!r} is no rate of at least {RATE_MIN} bytes a second; write for example 10 MiB, or unlimited")
    return rate


def _windows(text: str) -> list[Window]:
    found = _WINDOW.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no window of the week; write for example: {EXAMPLE}")
    begin, end = (int(found[f"h{n}"]) * 60 + int(found[f"m{n}"]) for n in (1, 2))
    if begin >= DAY_MINUTES or end > DAY_MINUTES or int(found["m1"]) > 59 or int(found["m2"]) > 59:
        raise ValueError(f"{text!r}: times go from 00:00 to 24:00")
    length = end - begin if end > begin else end - begin + DAY_MINUTES
    rate = _rate(found["rate"].strip())
    return [Window(day * DAY_MINUTES + begin, day * DAY_MINUTES + begin + length, rate, text) for day in _days(found["days"], text)]


def _days(names: str, text: str) -> list[int]:
    days: list[int] = []
    for name in names.split(","):
        first, _, last = name.partition("-")
        try:
            begin, end = (DAYS.index(day.title()) for day in (first, last or first))
        except ValueError:
            raise ValueError(f"{text!r}: days are {', '.join(DAYS)}, as in Mon-Fri or Sat,Sun") from None
        days += [day % len(DAYS) for day in range(begin, end + 1 if end >= begin else end + 1 + len(DAYS))]
    return days


def _overlap(one: Window, other: Window) -> bool:
    return any(one.begin < other.end + shift and other.begin + shift < one.end for shift in (-WEEK_MINUTES, 0, WEEK_MINUTES))
