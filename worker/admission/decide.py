"""The decision, pure: values in, a value out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker.jobs.model import Job
from worker.jobs.states import Reason


@dataclass(frozen=True, slots=True)
class EngineView:
    """What admission knows of an engine.

    Attributes:
        kinds: of sources it can fetch.
        capacity: jobs it may be given: its slots, and what it finished in the last seconds.
        live: jobs that take a slot now.
        alive: its owner saw it answer within the last seconds.
    """

    name: str
    kinds: frozenset[str]
    capacity: int
    live: int
    alive: bool

    @property
    def room(self) -> int:
        """Jobs it can take now."""
        return max(0, self.capacity - self.live) if self.alive else 0


@dataclass(frozen=True, slots=True)
class Admit:
    """Start it on this engine."""

    engine: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now. `text` is for the user; `until` is on the store's clock, None when it is not a matter of time."""

    reason: Reason
    text: str
    until: float | None = None


Decision = Admit | Wait


def decide(job: Job, engines: Mapping[str, EngineView], now: float) -> Decision:
    """Whether a queued job may start now, and where.

    Args:
        now: the store's clock.
    """
    if job.not_before > now:
        return Wait(Reason.SCHEDULE, f"tries again in {job.not_before - now:.0f} s: {job.message or 'the last try failed'}", job.not_before)
    able = _able(job, engines)
    if not able:
        wanted = _pinned(job)
        return Wait(Reason.ENGINE, f"engine {wanted} is not set up" if wanted else f"no engine can fetch {job.source.kind} sources")
    alive = [engine for engine in able if engine.alive]
    if not alive:
        return Wait(Reason.ENGINE, f"{_names(able)} does not answer; the job starts when it is back")
    free = [engine for engine in alive if engine.room > 0]
    if not free:
        return Wait(Reason.SLOTS, f"all {sum(engine.capacity for engine in alive)} slots of {_names(alive)} are taken")
    return Admit(choose(free).name)


def choose(free: list[EngineView]) -> EngineView:
    """The engine with the largest share of its slots free; the first by name among equals."""
    return min(free, key=lambda engine: (-engine.room / engine.capacity, engine.name))


def _pinned(job: Job) -> str | None:
    """The engine that holds this attempt already, or the one the user named."""
    return job.transfer.engine if job.transfer and job.transfer.attempt == job.attempt else job.engine


def _able(job: Job, engines: Mapping[str, EngineView]) -> list[EngineView]:
    pinned = _pinned(job)
    return [engine for name, engine in sorted(engines.items()) if pinned in (None, name) and job.source.kind in engine.kinds]


def _names(engines: list[EngineView]) -> str:
    return ", ".join(engine.name for engine in engines)
