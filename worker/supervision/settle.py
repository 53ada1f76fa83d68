"""What an engine showed becomes what the records say: complete, failed, paused, lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from worker import logs
from worker.jobs.events import EventType
from worker.jobs.model import Job, Progress
from worker.jobs.states import Phase, Reason, State, Want
from worker.limits import SUBMIT_WINDOW_S
from worker.ports import Change, Fault, Item, Lease, Services

log = logs.get(__name__)

#: An order that has to wait is given again after so long, however often; one that waits for space when there may be some.
WAIT_RETRY_S = 10.0
SPACE_RETRY_S = 30.0
WAITS = "waits: "


def move(services: Services, lease: Lease, ids: Iterable[str], change: Callable[[Job], Job | None]) -> dict[str, Job]:
    """Read the jobs, change those for which `change` returns a new record, and write them in one batch.

    Returns:
        the records as they are now, by id; those that somebody else changed meanwhile are found again next tick.
    """
    jobs = services.store.get(ids)
    changes = [Change(job, new) for job in jobs.values() if (new := change(job)) is not None]
    applied = services.store.apply(changes, lease) if changes else []
    return jobs | {a.job.id: a.job for a in applied if a.job is not None}


def completed(job: Job, item: Item, at: float) -> Job | None:
    """All bytes are here. What the engine counted is recorded before, as the job's progress (`final`)."""
    if job.state not in (State.DOWNLOADING, State.PAUSED) or job.want is Want.CANCEL:
        return None
    seeding = item.seeding and bool(job.seed_ratio)  # aria2 shows a torrent as seeding for a moment even when it is not to
    return job.moved(State.FINISHING, at, f"{final(item).done} bytes are here", phase=None, want=Want.RUN, seeding=seeding, message=None)


def final(item: Item) -> Progress:
    """The progress of a complete item; what it did not announce it has now."""
    size = item.progress.total if item.progress.total is not None else item.progress.done
    return replace(item.progress, done=size, total=size, speed=0, connections=0)


def waits(job: Job, fault: Fault, at: float, now: float) -> Job | None:
    """Back in the queue as the same attempt, for nothing failed; one line in the timeline, however often it comes back."""
    if job.state is State.PAUSED:
        return None  # it stands still as it is
    if job.want is Want.PAUSE:
        return job.moved(State.PAUSED, at, "paused", event=EventType.PAUSED, phase=None)
    text = None if waited(job) else f"{WAITS}{fault.detail}"
    wait_s = SPACE_RETRY_S if fault.wait is Reason.SPACE else WAIT_RETRY_S
    not_before = now + (wait_s if fault.retry_after_s is None else fault.retry_after_s)
    return job.moved(State.QUEUED, at, text, reason=fault.wait, message=fault.detail, phase=None, not_before=not_before)


def waited(job: Job) -> bool:
    """True when nothing worth a line happened since it began to wait, though it may have been tried meanwhile."""
    return bool(job.events) and job.events[-1].text.startswith(WAITS)


def adopted(job: Job, at: float) -> Job | None:
    """The engine has it, though its answer to the order was lost."""
    return taken(job, at) if job.state is State.SUBMITTING and job.want is Want.RUN else None


def taken(job: Job, at: float) -> Job:
    """The engine has it. The outside is told once an attempt, unless it was told of something else since."""
    engine = job.transfer.engine if job.transfer else None
    told = next((event for event in reversed(job.events) if event.type), None)
    again = told is not None and told.type is EventType.STARTED and told.data.get("attempt") == job.attempt
    if again:
        return job.moved(State.DOWNLOADING, at, None if waited(job) else f"{engine} has it", message=None)
    data = {"engine": engine, "attempt": job.attempt}
    return job.moved(State.DOWNLOADING, at, f"{engine} has it", event=EventType.STARTED, data=data, message=None)


def seeded(job: Job, at: float) -> Job | None:
    """The engine has forgotten a torrent it seeded; the files in place stay."""
    return job.noted(at, "seeding is over; the engine has forgotten it", seeding=False) if job.seeding else None


def stopped(job: Job, at: float) -> Job | None:
    """The engine, asked again, shows it stopped, as the user wanted."""
    if job.state is not State.DOWNLOADING or job.want is not Want.PAUSE:
        return None
    return job.moved(State.PAUSED, at, "paused", event=EventType.PAUSED, phase=None)


def lost(job: Job, at: float, now: float) -> Job | None:
    """The engine does not know it any more: the same attempt is submitted again and goes on from what is on disk."""
    if job.state is not State.DOWNLOADING or job.transfer is None:
        return None
    transfer = replace(job.transfer, submit_until=now + SUBMIT_WINDOW_S)
    return job.moved(State.SUBMITTING, at, f"{job.transfer.engine} lost it; it is handed over again", transfer=transfer, phase=None)


def phased(job: Job, phase: Phase | None, at: float, now: float) -> Job | None:
    """What the engine does with it changed."""
    return job.noted(at, phase=phase, phase_at=now) if job.state is State.DOWNLOADING and job.phase is not phase else None
