"""What a process works with, and the small seams: clock, nudges, notices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from worker.jobs.tiers import FixedTiers, Limits, Tier
from worker.ports.cache import Cache, NoCache
from worker.ports.coordinator import Coordinator
from worker.ports.dump import Archive
from worker.ports.engine import Engine
from worker.ports.store import Drain, JobStore

if TYPE_CHECKING:
    from worker.failpoints import Failpoints
    from worker.metrics import Metrics
    from worker.settings import Settings


class Clock(Protocol):
    """The wall clock, for people and timelines only."""

    def time(self) -> float:
        """Seconds since the epoch."""


class Step(StrEnum):
    """The short pieces of work; each is idempotent, found by a sweep, and a Celery task."""

    INTAKE = "intake"
    DESCRIBE = "describe"
    PROBE = "probe"
    ADMIT = "admit"
    START = "start"
    FINISH = "finish"
    NOTIFY = "notify"
    WEBHOOK = "webhook"


#: The name under which a supervisor's sweeper rests: `Coordinator.wake(SWEEPER)` makes one look for work of every step.
SWEEPER = "sweeper"


class Nudger(Protocol):
    """Tells a step, somewhere, to look. May be lost; never raises.

    Attributes:
        sends_tasks: by a message to a worker, not by waking a sweeper.
    """

    @property
    def sends_tasks(self) -> bool:
        """See above."""

    def nudge(self, step: Step) -> None:
        """Send a nudge unless one is pending."""


class Notifier(Protocol):
    """Tells the outside; at least once, in order per job."""

    def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Return when all were taken over; raise Transient otherwise."""


class Tiers(Protocol):
    """What users may have, as the operator has set it last.

    Attributes:
        fault: why what the operator wrote last is not in force, in words; None when it is.
    """

    @property
    def fault(self) -> str | None:
        """See above."""

    def fresh(self) -> Limits:
        """All limits, after a look at file and store when the last look is 2 s ago; the steps and doors call it once a batch.

        What cannot be read leaves the limits as they were.

        Raises:
            Transient: the file of tiers was not good once since this process began; until it is, nothing is let in.
        """

    def of(self, tier: str, user: str) -> Tier:
        """The limits of this user, as `fresh` found them last; those of `free` when there is no such tier. Costs no call to a service."""


class Pool(Protocol):
    """What this process was told of its engines last; they may come and go while it runs.

    Attributes:
        fault: why what the operator wrote last is not in force, in words; None when it is.
        leaving: engines that are not set up any more, kept in `Services.engines` until nothing runs there.
    """

    def former(self) -> Sequence[Engine]:
        """Engines that were there and may still be connected."""

    @property
    def fault(self) -> str | None:
        """See above."""

    @property
    def leaving(self) -> frozenset[str]:
        """See above."""


@dataclass(frozen=True, slots=True)
class FixedPool:
    """Engines that stay as they are."""

    fault: str | None = None
    leaving: frozenset[str] = frozenset()

    def former(self) -> Sequence[Engine]:
        """See `Pool.former`."""
        return ()


@dataclass(frozen=True, slots=True)
class Services:
    """What a process works with; built once, in `worker.wiring`, and passed along.

    Attributes:
        engines: by name; others may be among them the next time they are looked at, but none that was ever there is unknown.
        again: by the kind of a read of the cache, how it is asked once more with what it was asked by (`Hot`).
        archive: the records as a whole, for backups; None where nobody makes any.
    """

    settings: Settings
    store: JobStore
    coordinator: Coordinator
    engines: Mapping[str, Engine]
    nudger: Nudger
    notifier: Notifier
    clock: Clock
    metrics: Metrics
    failpoints: Failpoints
    owner: str
    tiers: Tiers = field(default_factory=FixedTiers)
    pool: Pool = field(default_factory=FixedPool)
    cache: Cache = field(default_factory=NoCache)
    again: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    archive: Archive | None = None

    def drains(self) -> Mapping[str, Drain]:
        """Every engine that is given nothing new: those that are drained, and those that are not set up any more. Raises Transient."""
        return dict.fromkeys(self.pool.leaving, Drain()) | self.store.drains()

    def close(self) -> None:
        """Release every connection; the engines go on."""
        for engine in (*self.engines.values(), *self.pool.former()):
            engine.close()
        self.cache.close()
        self.coordinator.close()
        self.store.close()
