"""What one process did with each kind, counted under its owner's lock or by one thread at a time; a lost count harms nobody."""

from __future__ import annotations

from dataclasses import dataclass, field

from worker.coordination.cache.values import NEGATIVE
from worker.ports.cache import Kind, KindStats


@dataclass(slots=True)
class Tally:
    """The figures of one kind; see `KindStats`."""

    local: int = 0
    shared: int = 0
    misses: int = 0
    stale: int = 0
    negative: int = 0
    fills: int = 0
    lost: int = 0
    waits: int = 0

    def here(self, value: bytes) -> None:
        """Count what was found in this process."""
        self.local += 1
        if value == NEGATIVE:
            self.negative += 1


@dataclass(slots=True)
class Tallies:
    """All kinds that were asked for."""

    by_kind: dict[str, Tally] = field(default_factory=dict)

    def of(self, kind: Kind) -> Tally:
        """The figures of a kind, to be counted up."""
        try:
            return self.by_kind[kind.name]
        except KeyError:
            return self.by_kind.setdefault(kind.name, Tally())

    def shown(self) -> dict[str, KindStats]:
        """As they are now."""
        return {name: KindStats(*(getattr(tally, field) for field in Tally.__slots__)) for name, tally in sorted(self.by_kind.items())}
