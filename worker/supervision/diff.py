"""The difference between what is recorded and what the engine shows; pure, and by level: it is found again until it is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from worker.jobs.model import Job
from worker.jobs.needs import promised
from worker.jobs.retries import REST, span
from worker.jobs.states import Cause, Phase, State
from worker.ports import Fault, Item, ItemStatus

#: Phases in which a transfer moves bytes; in the others its stall clock rests.
MOVING = frozenset({None, Phase.TRANSFER})
#: What needs no further order: the engine was given it, and the answer was lost.
AT_WORK = frozenset({ItemStatus.WAITING, ItemStatus.RUNNING, ItemStatus.COMPLETE})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a download may show no sign of life, in seconds.

    Attributes:
        stalled_s: without a byte, after which it is shown as stalled.
        stall_s: without a byte, after which it is given up.
        metadata_s: without the description of its torrent, after which it is given up.
        least_bytes: that have to come within `stall_s`; a server that sends a byte now and then would keep a slot for ever.
    """

    stalled_s: float
    stall_s: float
    metadata_s: float
    least_bytes: int = 1


@dataclass(frozen=True, slots=True)
class Terms:
    """What the record of a download says about its speed."""

    user: str
    tier: str
    max_speed: int | None

    @staticmethod
    def of(job: Job) -> Terms:
        """Those of a job that holds a transfer; who follows it has no say."""
        return Terms(job.user, job.tier, job.max_speed)


@dataclass(slots=True)
class Watched:
    """A job as its owner remembers it between ticks.

    Attributes:
        state, phase: as recorded in the store.
        done: bytes at the last change, and `moved_at` its time on the monotonic clock; for the stall clock.
        doing: the phase the engine showed last; another one starts the clocks anew.
        mark: bytes when it had last got ahead by `Patience.least_bytes`, and `marked_at` when that was.
        terms: what its speed is bound by.
        promised: bytes of the volume that were kept for it when it was handed over.
    """

    job: str
    state: State
    phase: Phase | None
    done: int = 0
    moved_at: float = 0.0
    doing: Phase | None = None
    mark: int = 0
    marked_at: float = 0.0
    terms: Terms | None = None
    promised: int = 0


def remembered(job: Job, now: float, store_now: Callable[[], float], patience: Patience) -> Watched:
    """A job as its owner remembers it first. A clock that ran under the owner before goes on, or who restarts often gives nothing up.

    Args:
        now: monotonic clock.
        store_now: the store's clock.
    """
    if job.phase not in (Phase.METADATA, Phase.STALLED) or not job.phase_at:
        return Watched(job.id, job.state, job.phase, -1, now, promised=promised(job) or 0)
    stalled = job.phase is Phase.STALLED
    since = now - max(0.0, store_now() - job.phase_at) - (patience.stalled_s if stalled else 0.0)
    doing, done = Phase.TRANSFER if stalled else Phase.METADATA, job.progress.done
    return Watched(job.id, job.state, job.phase, done, since, doing, done, since, promised=promised(job) or 0)


@dataclass(slots=True)
class Findings:
    """Handles by what is to be done about them."""

    adopted: list[str] = field(default_factory=list)  # recorded as still to be handed over, and the engine has it at work
    complete: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    dead: dict[str, Fault] = field(default_factory=dict)  # nothing has moved for too long
    stopped: list[str] = field(default_factory=list)  # recorded running, the engine shows it paused
    running: list[str] = field(default_factory=list)  # recorded paused, the engine shows it running
    missing: list[str] = field(default_factory=list)  # recorded running, the engine does not know it
    phases: dict[str, Phase | None] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)  # at the engine, not among the watched

    @property
    def quiet(self) -> bool:
        """True when nothing has to be written."""
        acts = (self.adopted, self.complete, self.failed, self.dead, self.stopped, self.running, self.missing, self.phases)
        return not any(acts)


def diff(watched: Mapping[str, Watched], items: Mapping[str, Item], now: float, patience: Patience) -> Findings:
    """Compare.

    Args:
        watched: by handle; only jobs the engine should have (submitted, or paused after it).
        now: monotonic clock, as in `Watched.moved_at`.
    """
    found = Findings()
    for handle, known in watched.items():
        item = items.get(handle)
        if known.state is State.DOWNLOADING:
            _running(found, handle, known, item, now, patience)
        elif known.state is State.PAUSED and item is not None:
            _paused(found, handle, item)
        elif known.state is State.SUBMITTING and item is not None and item.status in AT_WORK:
            found.adopted.append(handle)
    found.foreign = [handle for handle in items if handle not in watched]
    return found


def _running(found: Findings, handle: str, known: Watched, item: Item | None, now: float, patience: Patience) -> None:
    if item is None:
        found.missing.append(handle)
    elif item.status is ItemStatus.COMPLETE:
        found.complete.append(handle)
    elif item.status is ItemStatus.FAILED:
        found.failed.append(handle)
    elif item.status is ItemStatus.PAUSED:
        found.stopped.append(handle)
    else:
        still_s = _still(known, item, now, patience.least_bytes)
        if fault := _dead(item, now - known.marked_at, patience):
            found.dead[handle] = fault
        elif (phase := _phase(item, still_s, patience)) is not known.phase:
            found.phases[handle] = phase


def _paused(found: Findings, handle: str, item: Item) -> None:
    if item.status is ItemStatus.COMPLETE:
        found.complete.append(handle)
    elif item.status is ItemStatus.FAILED:
        found.failed.append(handle)
    elif item.status is not ItemStatus.PAUSED:
        found.running.append(handle)


def _still(known: Watched, item: Item, now: float, least_bytes: int) -> float:
    """Seconds without a byte; the clocks do not run while the engine queues or checks."""
    fresh = item.status is not ItemStatus.RUNNING or item.phase is Phase.CHECKING or item.phase is not known.doing
    if fresh or abs(item.progress.done - known.mark) >= least_bytes:
        known.mark, known.marked_at = item.progress.done, now
    if fresh or item.progress.done != known.done:
        known.done, known.doing, known.moved_at = item.progress.done, item.phase, now
    return now - known.moved_at


def _phase(item: Item, still_s: float, patience: Patience) -> Phase | None:
    """The engine's phase; `stalled` is ours, by bytes."""
    return Phase.STALLED if item.phase in MOVING and still_s >= patience.stalled_s else item.phase


def _dead(item: Item, still_s: float, patience: Patience) -> Fault | None:
    """The fault of one that was waited for long enough. Where nothing came another engine may find other peers, and nothing is lost."""
    if item.phase is Phase.METADATA and still_s >= patience.metadata_s:
        detail = f"no peer sent the description of the torrent for {span(patience.metadata_s)}"
        return Fault(Cause.METADATA, True, detail, elsewhere=True, retry_after_s=REST * patience.metadata_s)
    if item.phase in MOVING and still_s >= patience.stall_s:
        came = item.progress.done > 0
        detail = f"{'next to nothing' if came else 'not a byte'} came for {span(patience.stall_s)}"
        nobody = "" if item.progress.connections else ", and nobody is connected"
        return Fault(Cause.STALLED, True, detail + nobody, elsewhere=not came, retry_after_s=REST * patience.stall_s)
    return None
