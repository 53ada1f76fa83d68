"""The difference between what is recorded and what the engine shows; pure, and by level: it is found again until it is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.jobs.states import Phase, State
from worker.ports import Item, ItemStatus


@dataclass(slots=True)
class Watched:
    """A job as its owner remembers it between ticks.

    Attributes:
        state, phase: as recorded in the store.
        done: bytes at the last change, and `moved_at` its time on the monotonic clock; for the stall clock.
    """

    job: str
    state: State
    phase: Phase | None
    done: int = 0
    moved_at: float = 0.0


@dataclass(slots=True)
class Findings:
    """Handles by what is to be done about them."""

    complete: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)  # recorded running, the engine shows it paused
    running: list[str] = field(default_factory=list)  # recorded paused, the engine shows it running
    missing: list[str] = field(default_factory=list)  # recorded running, the engine does not know it
    phases: dict[str, Phase | None] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)  # at the engine, not among the watched

    @property
    def quiet(self) -> bool:
        """True when nothing has to be written."""
        return not (self.complete or self.failed or self.stopped or self.running or self.missing or self.phases)


def diff(watched: Mapping[str, Watched], items: Mapping[str, Item], now: float, stall_s: float) -> Findings:
    """Compare.

    Args:
        watched: by handle; only jobs the engine should have (submitted, or paused after it).
        now: monotonic clock, as in `Watched.moved_at`.
        stall_s: seconds without a byte after which a transfer counts as stalled.
    """
    found = Findings()
    for handle, known in watched.items():
        item = items.get(handle)
        if known.state is State.DOWNLOADING:
            _running(found, handle, known, item, now, stall_s)
        elif known.state is State.PAUSED and item is not None:
            _paused(found, handle, item)
    found.foreign = [handle for handle in items if handle not in watched]
    return found


def _running(found: Findings, handle: str, known: Watched, item: Item | None, now: float, stall_s: float) -> None:
    if item is None:
        found.missing.append(handle)
    elif item.status is ItemStatus.COMPLETE:
        found.complete.append(handle)
    elif item.status is ItemStatus.FAILED:
        found.failed.append(handle)
    elif item.status is ItemStatus.PAUSED:
        found.stopped.append(handle)
    else:
        phase = _phase(known, item, now, stall_s)
        if phase is not known.phase:
            found.phases[handle] = phase


def _paused(found: Findings, handle: str, item: Item) -> None:
    if item.status is ItemStatus.COMPLETE:
        found.complete.append(handle)
    elif item.status is ItemStatus.FAILED:
        found.failed.append(handle)
    elif item.status is not ItemStatus.PAUSED:
        found.running.append(handle)


def _phase(known: Watched, item: Item, now: float, stall_s: float) -> Phase | None:
    """The engine's phase; `stalled` is ours, by bytes, and its clock does not run while the engine queues or checks."""
    counts = item.status is ItemStatus.RUNNING and item.phase is not Phase.CHECKING
    if item.progress.done != known.done or not counts:
        known.done, known.moved_at = item.progress.done, now
    return Phase.STALLED if counts and now - known.moved_at >= stall_s else item.phase
