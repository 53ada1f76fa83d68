"""The decision, pure: values in, a value out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from worker.admission.balance import Balance, choose
from worker.admission.never import only_there
from worker.admission.space import Shortage, Space
from worker.jobs.model import Job
from worker.jobs.needs import needs_probe, tells_size
from worker.jobs.states import Reason
from worker.ports import Features

#: What an engine could not take yet is given to it again, for as long as it takes; nothing failed.
TRIED_AGAIN = frozenset({Reason.DUPLICATE, Reason.SPACE})


ASKED = "its source is being asked for its size"


@dataclass(frozen=True, slots=True)
class EngineView:
    """What admission knows of an engine.

    Attributes:
        capacity: jobs it may be given: its slots, and what it finished in the last seconds.
        live: jobs that take a slot now.
        alive: its owner saw it answer within the last seconds, and it does not rest after failures.
        trouble: in words that go on from its name, when it is not alive, or is given one job only.
        weight: compared with the others.
        outstanding: bytes it still has to fetch for its jobs.
        available: bytes on its volume that are free and promised to nobody; None when it is not known.
        pace: bytes a second, the most it fetched at lately; None when it showed none.
        level: of its breaker.
        draining: it is given nothing new.
    """

    name: str
    features: Features
    capacity: int
    live: int
    alive: bool
    trouble: str | None = None
    weight: int = 1
    outstanding: int = 0
    available: int | None = None
    pace: float | None = None
    level: int = 0
    draining: bool = False

    @property
    def room(self) -> int:
        """Jobs it can take now."""
        return max(0, self.capacity - self.live) if self.alive and not self.draining else 0


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


@dataclass(frozen=True, slots=True)
class Reject:
    """Not now and not later. `text` is for the user."""

    text: str


Decision = Admit | Wait | Reject


def decide(job: Job, engines: Mapping[str, EngineView], now: float, space: Space | None = None, balance: Balance | None = None) -> Decision:
    """Whether a queued job may start now, and where.

    Args:
        now: the store's clock.
        space: on the engines' volumes; None for room without end.
        balance: which of several engines it is; None takes them in turns, from the first.
    """
    if needs_probe(job):
        return _unasked(job, now)
    if job.needs_description:
        return _undescribed(job, now)
    if job.not_before > now and job.reason in TRIED_AGAIN:
        return Wait(job.reason, f"waits: {job.message}", job.not_before)
    if job.not_before > now:
        return Wait(Reason.SCHEDULE, f"tries again in {job.not_before - now:.0f} s: {job.message or 'the last try failed'}", job.not_before)
    able = able_engines(job, engines)
    if not able:
        return Wait(Reason.ENGINE, _unable(job, engines))
    shortages = _shortages(job, able, space)
    if _never(shortages) and job.transfer is not None:  # what began there, before its size was known, is not to end there
        able = able_engines(replace(job, transfer=None), engines) or able
        shortages = _shortages(job, able, space)
    if _never(shortages):
        anywhere = able_engines(replace(job, transfer=None, engine=None), engines)
        return Reject(_text(shortages.values()) + only_there(job, others=not _never(_shortages(job, anywhere, space))))
    fit = [engine for engine in able if not (shortage := shortages[engine.name]) or not shortage.never]
    if all(engine.draining for engine in fit):
        return Wait(Reason.ENGINE, _drained(fit))
    able = [engine for engine in able if not engine.draining]
    alive = _suited(job, _unspent(job, [engine for engine in able if engine.alive]))
    if not alive:
        return Wait(Reason.ENGINE, _away(able, pinned=_pinned(job, engines) is not None))
    roomy = [engine for engine in alive if shortages[engine.name] is None]
    if not roomy:
        return Wait(Reason.SPACE, f"waits: {_text(shortages[engine.name] for engine in alive)}")
    free = [engine for engine in roomy if engine.room > 0]
    if not free:
        tried = "".join(f"; {engine.name} {engine.trouble}" for engine in alive if engine.trouble)
        return Wait(Reason.SLOTS, f"all {sum(engine.capacity for engine in alive)} slots of {_names(alive)} are taken{tried}")
    return Admit(choose(balance or Balance(), job, free).name)


def _shortages(job: Job, engines: list[EngineView], space: Space | None) -> dict[str, Shortage | None]:
    return {engine.name: space.shortage(job, engine.name) if space else None for engine in engines}


def _never(shortages: Mapping[str, Shortage | None]) -> bool:
    return all(shortage and shortage.never for shortage in shortages.values())


def _unasked(job: Job, now: float) -> Wait:
    if job.tried:
        return Wait(Reason.PROBE, f"{job.message}; it is asked when to come back")
    if job.not_before > now:
        return Wait(Reason.PROBE, f"its source is asked again in {job.not_before - now:.0f} s: {job.message}", job.not_before)
    asked = "its source is being asked for its size" if tells_size(job.source) else "the addresses it names are being checked"
    return Wait(Reason.PROBE, asked)


def _undescribed(job: Job, now: float) -> Wait:
    if job.not_before > now:
        text = f"its .torrent file is fetched again in {job.not_before - now:.0f} s: {job.message or 'the last try failed'}"
        return Wait(Reason.DESCRIPTION, text, job.not_before)
    return Wait(Reason.DESCRIPTION, "its .torrent file is being fetched")


def _pinned(job: Job, engines: Mapping[str, EngineView]) -> str | None:
    """The engine that holds this attempt already, or the one the user named. One that is drained or gone holds nobody back."""
    held = job.transfer.engine if job.transfer and job.transfer.attempt == job.attempt else None
    return held if held is not None and held in engines and not engines[held].draining else job.engine


def able_engines(job: Job, engines: Mapping[str, EngineView]) -> list[EngineView]:
    """Those that may take the job."""
    pinned = _pinned(job, engines)
    named = [engine for name, engine in sorted(engines.items()) if pinned in (None, name)]
    return [engine for engine in named if engine.features.beyond(job) is None]


def _unspent(job: Job, alive: list[EngineView]) -> list[EngineView]:
    """Those that have not failed it yet; all of them when each did, for then its fault may pass."""
    return [engine for engine in alive if engine.name not in job.avoid] or alive


def _suited(job: Job, alive: list[EngineView]) -> list[EngineView]:
    """Those that speak the second version, for torrents that have it: older aria2 takes hybrids and computes a wrong infohash."""
    fluent = [engine for engine in alive if engine.features.bittorrent_v2] if job.has_v2 else []
    return fluent or alive


def _unable(job: Job, engines: Mapping[str, EngineView]) -> str:
    wanted = _pinned(job, engines)
    if wanted and wanted not in engines:
        return f"engine {wanted} is not set up"
    asked = [engines[wanted]] if wanted else engines.values()
    what = beyond_all(job, [engine.features for engine in asked]) or f"{job.source.kind} sources"
    return f"engine {wanted} cannot fetch {what}" if wanted else f"no engine can fetch {what}"


def _drained(able: list[EngineView]) -> str:
    if len(able) == 1:
        return f"engine {able[0].name} is being drained; the job starts when it is taken back"
    return f"engines {_names(able)} are being drained; the job starts when one is taken back"


def beyond_all(job: Job, engines: Iterable[Features]) -> str | None:
    """What about the job is beyond each of the engines, as the one says that comes nearest; None when one can, or there is none."""
    found = [(features.beyond(job), job.source.kind in features.kinds) for features in engines]
    if any(what is None for what, _ in found):
        return None
    return max(found, key=lambda pair: pair[1])[0] if found else None


def _text(shortages: Iterable[Shortage | None]) -> str:
    """The words of the first of them, one that may pass before those that will not."""
    return min((shortage for shortage in shortages if shortage), key=lambda shortage: shortage.never).text


def _away(engines: list[EngineView], *, pinned: bool) -> str:
    troubles = "; ".join(f"{engine.name} {engine.trouble or 'does not answer'}" for engine in engines)
    return f"{troubles}; the job starts when it is back" + (", for it is to run there" if pinned else "")


def _names(engines: list[EngineView]) -> str:
    return ", ".join(engine.name for engine in engines)
