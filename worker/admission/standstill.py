"""A disk at a standstill: nothing runs there, and all who wait for its room hold it among them, so that none of them can go on.

Then the bytes of one job go, so that another can go on. Whose follows from when they were asked for, which never changes:

    for an older one      what younger ones hold, the youngest's first, if it fits then
    for a younger one     if nothing else helps: what an older one holds that would not fit though all the others were away, for
                          finished files, paused jobs or the files of others have the room. Whoever is to take those away is waited
                          for longer. Of unknown size it had all the room there is: it has failed; else it waits for what it needs

Who lets go keeps his place and begins anew when there is room. One at a time, after the standstill has lasted for `space_patience_s` by
the store's clock: since the last of those who take part began to wait, which is on their records. What users paused is not touched.
Where nothing helps all wait, and are told for what.

Why this ends: a job that let go comes back only to more room than it had (`Job.least`) or, where its size is known, to enough, so only
older ones can have it let go again; the oldest never does but to wait for somebody outside, or to fail.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from worker import logs
from worker.admission.decide import EngineView, able_engines
from worker.admission.space import Device, Space
from worker.jobs.directories import work_directory
from worker.jobs.events import EventType
from worker.jobs.model import Job, Progress
from worker.jobs.needs import expected
from worker.jobs.retries import span
from worker.jobs.states import IN_SLOT, Cause, Reason, State, Want
from worker.jobs.transfer import own_id
from worker.ports import Applied, Change, Lease, Services
from worker.sizes import size_text

#: So many patiences go by before an older job gives way to a younger one: whoever takes finished files away may be slow.
OUTSIDERS = 4
#: Reasons for which a job that has begun does not wait for long.
SOON = frozenset({Reason.TURN, Reason.SLOTS, Reason.RATE, Reason.SCHEDULE, Reason.PROBE, Reason.DESCRIPTION})

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Waiter:
    """A job that waits for room on a volume; bytes.

    Attributes:
        asked: when it was asked for; its id tells two of one moment apart.
        takes: from the start, or more than that where nobody knows.
        held: of these, on the volume already.
        sized: its size is known.
    """

    id: str
    asked: float
    takes: int
    held: int = 0
    sized: bool = True

    @property
    def order(self) -> tuple[float, str]:
        """The one with the lower order is the older."""
        return self.asked, self.id


@dataclass(frozen=True, slots=True)
class Way:
    """Who lets go of its bytes, and for whom."""

    giver: Waiter
    other: Waiter

    @property
    def final(self) -> bool:
        """Whether it had all the room there is, and nobody knows whether any would do."""
        return self.giver.order < self.other.order and not self.giver.sized


def way_out(waiters: Sequence[Waiter], room: int, *, long: bool = True) -> Way | None:
    """What ends a standstill; None when one of them can go on, or when none can be helped. Pure.

    Args:
        room: bytes that are free there and not promised; may be below 0.
        long: it has lasted for so long that an older one may have to let go for a younger one.
    """
    if any(waiter.takes - waiter.held <= room for waiter in waiters):
        return None
    holders = [waiter for waiter in waiters if waiter.held]
    most = room + sum(holder.held for holder in holders)
    hopeless = [holder for holder in holders if holder.takes > most]
    ranked = sorted(waiters, key=lambda waiter: (not waiter.held, waiter.order))  # who has begun goes first: less is lost
    for one in ranked:
        younger = [holder for holder in holders if holder.order > one.order]
        if one.takes - one.held <= room + sum(holder.held for holder in younger):
            return Way(max(younger, key=lambda holder: (holder in hopeless, holder.order)), one)
    for one in ranked if long else ():
        older = [holder for holder in hopeless if holder.order < one.order]
        others = [holder for holder in holders if holder.order > one.order or holder in older]
        if one.takes - one.held <= room + sum(holder.held for holder in others):
            return Way(max(older, key=lambda holder: holder.order), one)
    return None


def filled(job: Job, text: str, at: float) -> Job:
    """A job of unknown size that had all the room of a disk, and filled it."""
    data = {"cause": str(Cause.DISK), "reason": text}
    gone = {"transfer": None, "handed": job.handed + 1, "claim": 0}
    return job.moved(
        State.FAILED, at, f"failed: {text}", event=EventType.FAILED, data=data, cause=Cause.DISK, reason=None, message=text, **gone
    )


def let_go(job: Job, held: int, at: float, now: float) -> Job:
    """A waiting job without the bytes that were fetched of it; they are deleted by the owner of its engine."""
    text = f"lets go of the {size_text(held)} fetched of it, for nothing on the disk could go on; it begins anew when there is room"
    return job.noted(at, text, transfer=None, handed=job.handed + 1, least=max(job.least, held), claim=0, short_since=now)


def end(services: Services, views: Mapping[str, EngineView], space: Space, short: Sequence[Job], now: float, lease: Lease) -> list[Applied]:
    """Have one job of each volume that has been at a standstill for long let go of its bytes; what became of them.

    Args:
        short: that wait for space, those that have waited longest first.
        now: the store's clock.
        lease: of the admission that looked.
    """
    patience_s, applied = services.settings.space_patience_s, list[Applied]()
    if not any(job.short_since is not None and now - job.short_since >= patience_s for job in short[:1]):
        return applied
    for still in _standstills(services, views, space, short):
        lasted_s = now - still.since
        way = way_out(still.waiters, still.room, long=lasted_s >= OUTSIDERS * patience_s) if lasted_s >= patience_s else None
        if way is not None and not _being_deleted(services, still):
            applied.append(_given(services, still.jobs[way.giver.id], way, now, lease))
    return applied


def _given(services: Services, job: Job, way: Way, now: float, lease: Lease) -> Applied:
    at, held = services.clock.time(), way.giver.held
    text = f"it filled the disk with {size_text(held)}, all the room there was for it, and was not complete; others need the room"
    new = filled(job, text, at) if way.final else let_go(job, held, at, now)
    services.store.record_progress({job.id: Progress(0, job.progress.total)}, lease)
    [applied] = services.store.apply([Change(job, new)], lease)
    if applied.won:
        services.metrics.given_way.inc(held)
        log.warning("a disk was at a standstill; a job lets go of its bytes", job=job.id, bytes=held, gives_way_to=way.other.id)
    return applied


@dataclass(frozen=True, slots=True)
class _Still:
    """A volume on which nothing runs, and who waits for its room.

    Attributes:
        since: store clock; when the last of those who hold some of it, or let go of it, began to wait.
        paused: bytes that paused jobs have or were promised there.
    """

    jobs: Mapping[str, Job]
    waiters: Sequence[Waiter]
    room: int
    since: float
    paused: int


def _standstills(services: Services, views: Mapping[str, EngineView], space: Space, short: Sequence[Job]) -> Iterator[_Still]:
    """The volumes where nobody who waits can start, and nothing runs that may end."""
    volumes: defaultdict[Device, list[str]] = defaultdict(list)
    for name, view in views.items():
        device = space.device(name)
        if device is not None and view.alive:
            volumes[device].append(name)
    for device, names in volumes.items():
        if any(views[name].live for name in names):
            continue
        here = [job for name in names for job in services.store.at_engine(name)]  # bounded: nothing runs there
        if any(_moves(job, space, device) for job in here):
            continue
        waiting = {job.id: job for job in [*short, *here] if _waits(job)}
        able = {job.id: _engine(job, views, names) for job in waiting.values()}
        jobs = {job.id: job for job in waiting.values() if able[job.id] is not None}
        if not jobs or any(space.shortage(job, str(able[job.id])) is None for job in jobs.values()):
            continue
        waiters = [_waiter(job, str(able[job.id]), space) for job in jobs.values()]
        part = [job.short_since or float("inf") for job in jobs.values() if job.transfer is not None or job.least]
        room = space.available(names[0]) or 0
        paused = sum(max(expected(job) or 0, space.kept(job, job.transfer.engine)) for job in here if _stands(job) and job.transfer)
        yield _Still(jobs, waiters, room, max(part, default=float("inf")), paused)


def _waits(job: Job) -> bool:
    if job.state is not State.QUEUED or job.reason is not Reason.SPACE or job.want is not Want.RUN:
        return False
    return job.transfer is None or job.transfer.size is None


def _moves(job: Job, space: Space, device: Device) -> bool:
    """Whether a job will soon end, start, or leave room by itself, so that nothing is lost for it to wait for that."""
    if job.state is State.DONE:  # what it seeds is linked, and leaves nothing when it goes, unless it is a copy
        return job.out is not None and space.place(job.out) not in (None, device)
    if job.state in IN_SLOT or job.state is State.FINISHING or job.want is Want.CANCEL:
        return True
    return job.reason in SOON if job.state is State.QUEUED else job.reason is Reason.DUPLICATE


def _stands(job: Job) -> bool:
    return job.state is State.PAUSED and job.transfer is not None


def _engine(job: Job, views: Mapping[str, EngineView], names: Sequence[str]) -> str | None:
    """The engine of a volume that a job waits for, if it waits for one of these."""
    able = (view for view in able_engines(job, views) if view.alive and not view.draining and view.name in names)
    return next((view.name for view in able), None)


def _waiter(job: Job, engine: str, space: Space) -> Waiter:
    return Waiter(job.id, job.created_at, space.takes(job, engine), space.kept(job, engine), expected(job) is not None)


def _being_deleted(services: Services, still: _Still) -> bool:
    """Whether the last one's bytes are still there: its engine's owner deletes them within a minute or two."""
    gone = [own_id(job.id, job.handed - 1) for job in still.jobs.values() if job.transfer is None and job.least and job.handed]
    there = [id for id in gone for name, engine in services.engines.items() if os.path.isdir(work_directory(engine.directory, id, name))]
    needed = {job.transfer.id for job in services.store.holding(there) if job.transfer} if there else set()
    return bool({*there} - needed)


def told(services: Services, views: Mapping[str, EngineView], space: Space, short: Sequence[Job], job: Job, now: float) -> str:
    """What else keeps a job waiting where nothing runs, to go on from what it needs; empty when something runs, or nobody knows."""
    for still in _standstills(services, views, space, [*short, job]):
        if job.id not in still.jobs:
            continue
        others = sum(waiter.held for waiter in still.waiters if waiter.id != job.id)
        words = f"; paused jobs hold {size_text(still.paused)} of the disk" if still.paused else ""
        words += f"; others that wait, too, hold {size_text(others)} of it" if others else ""
        if way := way_out(still.waiters, still.room):
            patience_s = services.settings.space_patience_s * (OUTSIDERS if way.giver.order < way.other.order else 1)
            who = "this one" if way.giver.id == job.id else "one of them"
            words += f"; {who} lets go of {size_text(way.giver.held)} in about {span(max(0.0, still.since + patience_s - now))}"
        return words
    return ""
