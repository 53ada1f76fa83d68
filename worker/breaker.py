"""Whether an engine is trusted with jobs: a circuit breaker, pure; each change is a new value.

    closed      it is given jobs
    open        it failed: it is given none before its rest is over and it has answered
    half-open   it is given one job; what comes of that closes the breaker, or opens it for longer

Each opening is one level up and each success one level down, so an engine that keeps failing rests for longer each time.
While it does not answer at all no level is added: an outage is one failure, however long it lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

#: Seconds of rest by level, from 1: as Sonarr rests an indexer that fails.
REST_S = (0.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 10_800.0, 21_600.0)
LEVEL_MAX = len(REST_S)
REASON_CHARACTERS_MAX = 300


class Circuit(StrEnum):
    """See the module."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """Of one engine; times are on the store's clock.

    Attributes:
        level: how many failures it has not made good yet.
        since: when it came into this state.
        until: open, and it rests until then.
        silent_since: since when it has not answered; None while it does, or while that is not long enough to tell.
        reason: why it was opened, in words.
    """

    state: Circuit = Circuit.CLOSED
    level: int = 0
    since: float = 0.0
    until: float = 0.0
    silent_since: float | None = None
    reason: str = ""

    def opened(self, now: float, reason: str, silent_since: float | None = None) -> Breaker:
        """It failed: it rests, for longer than the last time."""
        level = min(self.level + 1, LEVEL_MAX)
        return Breaker(Circuit.OPEN, level, now, now + REST_S[level - 1], silent_since, reason[:REASON_CHARACTERS_MAX])

    def unanswered(self, now: float, since: float, reason: str) -> Breaker:
        """It has not answered since then; one that rests already does so as long as it was to."""
        if self.state is Circuit.OPEN:
            return self if self.silent_since is not None else replace(self, silent_since=since, reason=reason[:REASON_CHARACTERS_MAX])
        return self.opened(now, reason, since)

    def answered(self, now: float) -> Breaker:
        """It answers: after its rest it may show with one job that it works."""
        heard = replace(self, silent_since=None) if self.silent_since is not None else self
        if self.state is not Circuit.OPEN or self.since <= now < self.until:  # the clock of a store may have been set back
            return heard
        return replace(heard, state=Circuit.HALF_OPEN, since=now)

    def succeeded(self, now: float) -> Breaker:
        """A download went as it should; the rest of an engine that is open is not cut short by what still runs there."""
        level = max(0, self.level - 1)
        if self.state is Circuit.HALF_OPEN:
            return Breaker(Circuit.CLOSED, level, now)
        return replace(self, level=level) if level != self.level else self

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"state": str(self.state)}


_FIELDS = frozenset(field.name for field in fields(Breaker))


def breaker_of(document: Mapping[str, Any] | None) -> Breaker:
    """The inverse of `Breaker.document`; a closed one for what cannot be read, fields of a newer version are ignored."""
    values = {name: value for name, value in (document or {}).items() if name in _FIELDS}
    try:
        return Breaker(**{**values, "state": Circuit(values.get("state", Circuit.CLOSED))})
    except (TypeError, ValueError):
        return Breaker()
