"""An engine, as its owner shows it to every process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """What an engine's owner saw last, shared with every process for `SNAPSHOT_TTL_S`.

    Attributes:
        error: why it is not looked after now; None when it is. `unproved`: because it was not yet seen to be kept out of private networks.
        foreign: how many of the items are not ours; they are left alone.
        limit: bytes a second that it is held to.
        wants: what it can use of a budget, in bytes a second; None for all it is given.
        share: what it is to take of the budget.
        told: what it was told so that it takes that (`supervision.bandwidth.regulation`), `limit` is what it shows.
        budgets: what its downloads can use of each tier's and user's bandwidth (`supervision.bandwidth.caps.Demand`), by the budget's name.
        unheld: downloads that do not show the limit they were given.
        budget, zone: what its owner divides among the engines, as it is written (`worker.notation.bandwidth`), and by which time zone.
        breaker: its state (`worker.breaker.Circuit`), level, and until when it rests and since when it is silent, on the
            store's clock; `reason` is why.
        pace: bytes a second, the most it fetched at lately; None when it showed none.
        done: bytes it has of the jobs it has now.
        waiting: our items in the engine's own queue.
        version: of the program, as it says itself.
    """

    name: str
    slots: int
    kinds: tuple[str, ...]
    directory: str
    free_bytes: int | None
    speed: int
    items: int
    ahead: int
    at: float
    owner: str
    error: str | None = None
    foreign: int = 0
    limit: int | None = None
    wants: float | None = None
    share: int | None = None
    told: int | None = None
    budgets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unheld: int = 0
    budget: str = ""
    zone: str = ""
    breaker: str = "closed"
    level: int = 0
    until: float | None = None
    silent_since: float | None = None
    reason: str = ""
    pace: float | None = None
    done: int = 0
    waiting: int = 0
    version: str | None = None
    unproved: bool = False
