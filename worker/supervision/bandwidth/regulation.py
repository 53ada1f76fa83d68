"""What an engine has to be told so that it takes what it is given: a factor, by what it took of what it was told. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.jobs.states import Phase
from worker.ports import Item, ItemStatus

#: What is measured over: three times that in which aria2 counts its own speed, after which its rate repeats itself.
WINDOW_S = 30.0
#: An engine follows a limit that jumped, and a download begins, in its own way; the next seconds say nothing.
SETTLE_S = 12.0
#: A share that moves by more of itself has jumped.
JUMP = 0.1
#: The shortest time of which a rate is kept, and the longest between two looks that is measured.
SPAN_S, GAP_S = 1.0, 10.0
#: Of the window; where downloads come and go, some of it cannot be counted.
COUNTED = 0.6
#: Bounds of the factor: nobody is told more than this, or less, of a share.
LEAST, MOST = 0.8, 1.14
#: A correction that would be smaller is not made, nor one sooner after another; one is so much of what it would take.
DEAD, PAUSE_S, GAIN = 0.02, 10.0, 0.5
#: In its better quarter of the time, who is held back by the limit comes so near to it.
REACHES = 0.95
#: Who took so much of what was due over this time is told no more than its share at once; two of aria2's rounds, which differ in
#: themselves only. With `MOST` it keeps every half minute of an even share within a tenth.
EXCESS, EXCESS_S = 1.065, 20.0
#: Who takes less of what it is told is held back by something else; if it was told more for it, it is left alone for so long.
HELD, LEFT_S = 0.8, 300.0


@dataclass(slots=True)
class _Span:
    """Bytes that were taken in a time, that were told, and that were due."""

    since: float
    until: float
    seconds: float = 0.0
    taken: float = 0.0
    told: float = 0.0
    due: float = 0.0


class Regulation:
    """The factor of one engine, or of one download.

    It follows from what was taken of what was told, which does not change with the factor, so it does not swing; and only
    from times in which the limit was what held it back.

    Args:
        takes: what it takes of a limit by itself, until that is measured.

    Attributes:
        factor: what a share is multiplied with to be told, between `LEAST` and `MOST`.
    """

    __slots__ = ("_at", "_first", "_left_until", "_moved_at", "_open", "_settled_at", "_share", "_spans", "_told", "factor")

    def __init__(self, takes: float = 1.0) -> None:
        self.factor = self._first = _bounded(1 / takes)
        self._spans: deque[_Span] = deque()
        self._open: _Span | None = None
        self._share: float | None = None
        self._told: float | None = None
        self._at = self._moved_at = self._left_until = float("-inf")
        self._settled_at = float("inf")

    def told(self, share: float) -> float:
        """What it is to be told so that it takes the share."""
        return share * self.factor

    def limited(self, share: float | None, told: float | None, now: float) -> None:
        """It was told so for this share, and shows it; None when it is held to nothing that is known."""
        if not share or not told:
            self._share = self._told = None
            return
        if self._share is None or abs(share - self._share) > JUMP * self._share:
            self._settled_at = now + SETTLE_S
        self._share, self._told = share, told

    def rests(self) -> None:
        """Nothing runs there. The factor stays."""
        self._settled_at = float("inf")

    def saw(self, taken: int | None, now: float) -> None:
        """It took so many bytes since the last call; None when that cannot be told. Corrects the factor when it is time."""
        begun, self._at = self._at, now
        if self._settled_at == float("inf"):
            self._settled_at = now + SETTLE_S
        if taken is None or self._share is None or self._told is None or now - begun > GAP_S:
            self._open = None
            return
        span = self._open = self._open or _Span(begun, now)
        span.until = now
        span.seconds += now - begun
        span.taken += taken
        span.told += self._told * (now - begun)
        span.due += self._share * (now - begun)
        if span.seconds >= SPAN_S:
            self._spans.append(span)
            self._open = None
            self._correct(now)

    def _correct(self, now: float) -> None:
        while self._spans[0].until <= now - WINDOW_S:
            self._spans.popleft()
        spans = [span for span in self._spans if span.since >= self._settled_at]
        lately = [span for span in spans if span.until > now - EXCESS_S]
        known = sum(span.seconds for span in lately) > EXCESS_S - 2 * SPAN_S
        if self.factor > 1 and known and sum(span.taken for span in lately) > EXCESS * sum(span.due for span in lately):
            self._move(1.0, now)
        elif now >= max(self._settled_at + WINDOW_S, self._moved_at + PAUSE_S, self._left_until):
            self._follow(spans, now)

    def _follow(self, spans: Sequence[_Span], now: float) -> None:
        if sum(span.seconds for span in spans) < COUNTED * WINDOW_S:
            return
        taken, told = sum(span.taken for span in spans), sum(span.told for span in spans)
        rates = sorted(span.taken / span.told for span in spans)
        if taken < HELD * told:
            if self.factor > self._first:
                self._move(self._first, now)
                self._left_until = now + LEFT_S
        elif rates[math.ceil(0.75 * len(rates)) - 1] >= REACHES:
            off = _bounded(told / taken) - self.factor
            if abs(off) > DEAD:
                self._move(self.factor + GAIN * off, now)

    def _move(self, factor: float, now: float) -> None:
        self.factor, self._moved_at = _bounded(factor), now


class Regulations:
    """The factors of an engine's downloads, by handle: of those that are held to a limit of their own.

    Args:
        takes: what the engine takes of a limit by itself. A download takes all of it while it is new, so it begins in the middle.
    """

    def __init__(self, takes: float = 1.0) -> None:
        self._takes = (1 + takes) / 2
        self._each: dict[str, Regulation] = {}
        self._before: dict[str, int] = {}

    def told(self, handle: str, share: float) -> float:
        """See `Regulation.told`."""
        known = self._each.get(handle)
        return known.told(share) if known else share / self._takes

    def limited(self, limits: Mapping[str, tuple[float | None, float | None]], now: float) -> None:
        """See `Regulation.limited`; share and what is shown, of those that were told something."""
        for handle, (share, told) in limits.items():
            if share and told:
                self._each.setdefault(handle, Regulation(self._takes)).limited(share, told, now)
            else:
                self._each.pop(handle, None)

    def saw(self, items: Mapping[str, Item], now: float) -> None:
        """What every download here has by now; who is not here any more is forgotten."""
        self._each = {handle: known for handle, known in self._each.items() if handle in items}
        for handle, known in self._each.items():
            if items[handle].status is ItemStatus.RUNNING:
                known.saw(gain(self._before[handle], items[handle]) if handle in self._before else None, now)
            else:
                known.rests()
        self._before = {handle: items[handle].progress.done for handle in self._each}


class Meter:
    """The bytes that all downloads of an engine took between two looks, by their own progress.

    An engine's own figure of its speed is no measure: aria2 shows its limit while it takes nine tenths of it.
    """

    def __init__(self) -> None:
        self._before: Mapping[str, Item] = {}
        self._session: str | None = None

    def taken(self, items: Mapping[str, Item], session: str) -> int | None:
        """Since the last call; None when it cannot be told: it began, something came with bytes, or left, or looks through what it has."""
        before, same = self._before, session == self._session
        self._before, self._session = items, session
        left = (before[handle].status for handle in before.keys() - items.keys())
        if not same or any(status is not ItemStatus.COMPLETE for status in left):
            return None
        total = 0
        for handle, item in items.items():
            known = handle in before
            gained = gain(before[handle].progress.done if known else 0, item)
            if gained is None or (gained and not known):
                return None
            total += gained
        return total


def gain(before: int, item: Item) -> int | None:
    """Bytes that a download took since it had so many; None when that cannot be told."""
    gained = item.progress.done - before
    return None if gained < 0 or item.phase is Phase.CHECKING else gained


def _bounded(factor: float) -> float:
    return min(MOST, max(LEAST, factor))
