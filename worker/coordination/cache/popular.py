"""What is asked for most: one read in some counted here, in bounded memory, and told to Redis, where the counts of all processes meet."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.coordination.cache.values import decoded, encoded
from worker.ports.cache import Again, Hot, Kind

#: One read in so many is counted, by chance, so that no rhythm of readers hides one of them.
ONE_IN = 8
#: Different reads that are counted in one process between two times that Redis is told.
COUNTED_MAX = 128
#: What is asked by a longer text is not counted.
TEXT_BYTES_MAX = 1_000
#: How many of the first of a day are kept in Redis, and for how long; rates of minutes are kept for the runs of the next day.
KEPT_MAX = 500
DAY_S = 86_400
KEPT_S = 2 * DAY_S
RATES_S = 26 * 3_600
#: What a count of yesterday is worth today.
YESTERDAY = 0.5


def hot_of(text: str, count: float) -> Hot | None:
    """A read as Redis has it; None for what no process of this version wrote."""
    try:
        kind, again = decoded(text.encode())
    except (ValueError, TypeError):
        return None
    return Hot(kind, tuple(again), count) if isinstance(kind, str) and isinstance(again, list) else None


@dataclass(slots=True)
class _Count:
    kind: str
    again: Again
    times: int


@dataclass(frozen=True, slots=True)
class Told:
    """What Redis is told.

    Attributes:
        counts: JSON of kind and what it is asked by -> how often it was counted.
    """

    reads: int
    found: int
    counts: Mapping[str, int]


@dataclass(slots=True)
class Popular:
    """The counts of one process. Not safe for several threads at once; its owner locks.

    When there are too many, the rarest makes room and the newcomer has its count on top ("space-saving", Metwally and others,
    2005): what is asked far more than others is never missed.
    """

    reads: int = 0
    found: int = 0
    _until_next: int = 1
    _counts: dict[str, _Count] = field(default_factory=dict)

    def saw(self, kind: Kind, name: str, again: Again, *, found: bool) -> None:
        """Count a read that can be asked again, in turn also which it was."""
        self.reads += 1
        self.found += found
        self._until_next -= 1
        if self._until_next > 0:
            return
        self._until_next = random.randrange(1, 2 * ONE_IN)  # noqa: S311 - no secret
        known, times = self._counts.get(name), 0
        if known is not None:
            known.times += 1
            return
        if len(self._counts) >= COUNTED_MAX:
            times = self._counts.pop(min(self._counts, key=lambda name: self._counts[name].times)).times
        self._counts[name] = _Count(kind.name, again, times + 1)

    def taken(self) -> Told:
        """What was counted since the last time."""
        texts = {encoded([each.kind, each.again or ()]): each.times for each in self._counts.values()}
        counts = {text.decode(): times for text, times in texts.items() if len(text) <= TEXT_BYTES_MAX}
        told = Told(self.reads, self.found, counts)
        self.reads = self.found = 0
        self._counts.clear()
        return told
