"""Loads that are under way in this process: one for each entry, and everybody else waits for it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field


class Flight:
    """One load.

    Attributes:
        spoiled: what it brings was invalidated meanwhile: it is for those who waited already, and is not kept.
        value: JSON, when it ended well and its value is JSON at all.
    """

    __slots__ = ("ended", "error", "marks", "spoiled", "value")

    def __init__(self, marks: Sequence[str]) -> None:
        self.marks = frozenset(marks)
        self.ended = threading.Event()
        self.spoiled = False
        self.value: bytes | None = None
        self.error: Exception | None = None


@dataclass(slots=True)
class Flights:
    """Those of one process, by entry. Not safe for several threads at once; its owner locks."""

    under_way: dict[str, Flight] = field(default_factory=dict)

    def get(self, name: str) -> Flight | None:
        """The load whose value somebody who asks now may have."""
        return self.under_way.get(name)

    def begin(self, name: str, marks: Sequence[str]) -> Flight:
        """A new load."""
        flight = self.under_way[name] = Flight(marks)
        return flight

    def end(self, name: str, flight: Flight) -> None:
        """Let those go on who wait for it."""
        if self.under_way.get(name) is flight:
            del self.under_way[name]
        flight.ended.set()

    def spoil(self, marks: Collection[str] | None = None) -> None:
        """Loads with one of the marks (None: all) began too early: whoever asks from now on begins another."""
        for name, flight in list(self.under_way.items()):
            if marks is None or not flight.marks.isdisjoint(marks):
                flight.spoiled = True
                del self.under_way[name]
