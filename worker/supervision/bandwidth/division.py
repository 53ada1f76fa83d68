"""One budget over all engines, divided by weight among those that can use it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

#: Long enough for the pieces of a slow torrent, which come at once and then nothing for a while.
WINDOW_S = 20.0
#: An engine that took so much of its limit over the window could take more.
HUNGRY = 0.75
#: What one that took less may grow by.
GROWTH = 1.6
#: Of the budget, for an engine at rest: enough to begin.
RESTING = 0.05
#: A limit that was raised so far has to be tried for a whole window.
RAISED = 1.2


@dataclass(frozen=True, slots=True)
class Use:
    """What an engine can use.

    Attributes:
        wants: bytes a second; None for all it is given.
    """

    weight: int
    wants: float | None


def divide(budget: int, uses: Mapping[str, Use]) -> dict[str, int]:
    """Bytes a second for each engine; together not more than the budget, and all of it while anybody wants it.

    Weighted max-min fairness: nobody gets more than it wants, and what is left over goes to the others by weight.
    """
    shares: dict[str, float] = {}
    open_, left = dict(uses), float(budget)
    while open_:
        unit = left / sum(use.weight for use in open_.values())
        modest = {name: use.wants for name, use in open_.items() if use.wants is not None and use.wants <= unit * use.weight}
        if not modest:
            shares |= {name: unit * use.weight for name, use in open_.items()}
            break
        shares |= modest
        left -= sum(modest.values())
        open_ = {name: use for name, use in open_.items() if name not in modest}
    return {name: int(share) for name, share in shares.items()}


class Appetite:
    """What one engine can use, by what it took of its limit lately."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._limit: int | None = None
        self._since = float("-inf")

    def limited(self, limit: int | None, now: float) -> None:
        """It is held to this from now on."""
        if limit is None or self._limit is None or limit > RAISED * self._limit:
            self._since = now
        self._limit = limit

    def saw(self, speed: int, now: float) -> None:
        """It took so many bytes a second just now."""
        self._seen.append((now, speed))
        while now - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()

    def wants(self, budget: int, *, at_work: bool, now: float) -> float | None:
        """See `Use.wants`.

        Args:
            at_work: something downloads there.
        """
        if not at_work:
            self._since = now  # what begins next has a window of its own
            return budget * RESTING
        if self._limit is None or now - self._since < WINDOW_S or not self._seen:
            return None
        taken = sum(speed for _, speed in self._seen) / len(self._seen)
        return None if taken >= HUNGRY * self._limit else max(budget * RESTING, taken * GROWTH)
