"""Volumes on which nothing runs while jobs wait for their room: what keeps them, and that one lets go when they keep each other."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from worker import logs
from worker.admission.decide import EngineView, able_engines
from worker.admission.space import Device, Space
from worker.admission.standstill import LAST, NEVER, Waiter, Way, filled, let_go, way_out
from worker.jobs.directories import WORK
from worker.jobs.model import Job, Progress
from worker.jobs.needs import expected
from worker.jobs.retries import span
from worker.jobs.states import IN_SLOT, Reason, State, Want
from worker.jobs.transfer import is_of, maker
from worker.notation.sizes import size_text
from worker.ports import Applied, Change, Lease, Services

#: So many patiences go by before an older job gives way to a younger one: whoever takes finished files away may be slow.
OUTSIDERS = 4
#: Directories of transfers that are looked at for what failed ones left behind.
LOOK_MAX = 1_000
#: Bytes that nobody needs are deleted by their engine's owner within minutes; what is there for longer nobody can delete, or will.
DELETED_S = 900.0
#: Reasons for which a job that has begun does not wait for long.
SOON = frozenset({Reason.TURN, Reason.SLOTS, Reason.RATE, Reason.SCHEDULE, Reason.PROBE, Reason.DESCRIPTION})

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Idle:
    """A volume on which nothing runs, and nobody who waits can start.

    Attributes:
        jobs: that wait for its room, or failed and left something there.
        room: bytes that are free there and not promised.
        paused: bytes that paused jobs have or were promised there.
        deleting: bytes lie there that nobody needs, and that are deleted soon.
    """

    jobs: Mapping[str, Job]
    waiters: Sequence[Waiter]
    room: int
    paused: int
    deleting: bool


def end(services: Services, views: Mapping[str, EngineView], space: Space, short: Sequence[Job], now: float, lease: Lease) -> list[Applied]:
    """Have one job of each volume that has been at a standstill for long let go of its bytes; what became of the records.

    Args:
        short: that wait for space, those that have waited longest first.
        now: the store's clock.
        lease: of the admission that looked.
    """
    if not short:
        return []
    applied, waits_for = list[Applied](), set[str]()
    for idle in _idle(services, views, space, short):
        way = way_out(idle.waiters, idle.room)
        if way is None:
            continue
        waits_for.add(way.other.id)
        other = idle.jobs[way.other.id]
        if other.still_since is None:
            applied += services.store.apply([Change(other, other.noted(services.clock.time(), still_since=now))], lease)
        elif now - other.still_since >= _patience_s(services, way) and not idle.deleting:
            applied.append(_given(services, idle.jobs[way.giver.id], way, now, lease))
    over = [job for job in short if job.still_since is not None and job.id not in waits_for]
    if over:
        applied += services.store.apply([Change(job, job.noted(services.clock.time(), still_since=None)) for job in over], lease)
    return applied


def told(services: Services, views: Mapping[str, EngineView], space: Space, short: Sequence[Job], job: Job, now: float) -> str:
    """What else keeps a job waiting where nothing runs, to go on from what it needs; empty when something runs, or nobody knows."""
    for idle in _idle(services, views, space, [*short, job]):
        if job.id not in idle.jobs:
            continue
        others = sum(waiter.held for waiter in idle.waiters if waiter.id != job.id)
        words = f"; paused jobs hold {size_text(idle.paused)} of the disk" if idle.paused else ""
        words += f"; others that wait or failed hold {size_text(others)} of it" if others else ""
        if way := way_out(idle.waiters, idle.room):
            since = idle.jobs[way.other.id].still_since
            left_s = _patience_s(services, way) - (0.0 if since is None else now - since)
            who = "this one" if way.giver.id == job.id else "one of them"
            words += f"; {who} lets go of {size_text(way.giver.held)} in about {span(max(0.0, left_s))}"
        return words
    return ""


def _patience_s(services: Services, way: Way) -> float:
    return services.settings.space_patience_s * (OUTSIDERS if way.for_younger else 1)


def _given(services: Services, job: Job, way: Way, now: float, lease: Lease) -> Applied:
    at, held = services.clock.time(), way.giver.held
    text = f"it filled the disk with {size_text(held)}, all the room there was for it, and was not complete; others need the room"
    new = filled(job, held, text, at) if way.final else let_go(job, held, at, now)
    if not job.terminal:
        services.store.record_progress({job.id: Progress(0, job.progress.total)}, lease)
    [applied] = services.store.apply([Change(job, new)], lease)
    if applied.won:
        services.metrics.given_way.inc(held)
        log.warning("a disk was at a standstill; a job lets go of its bytes", job=job.id, bytes=held, gives_way_to=way.other.id)
    return applied


def _idle(services: Services, views: Mapping[str, EngineView], space: Space, short: Sequence[Job]) -> Iterator[Idle]:
    """The volumes where nobody who waits can start, and nothing runs that may end."""
    volumes: defaultdict[Device, list[str]] = defaultdict(list)
    for name, view in views.items():
        device = space.device(name)
        if device is not None and view.alive:
            volumes[device].append(name)
    quiet = {device: names for device, names in volumes.items() if not any(views[name].live for name in names)}
    lying = {device: [job for name in names for job in services.store.at_engine(name)] for device, names in quiet.items()}  # nothing runs
    still = {name for device, jobs in lying.items() if not any(_moves(job, space, device) for job in jobs) for name in quiet[device]}
    for device, names in quiet.items():
        here = lying[device] if still.issuperset(names) else []
        jobs = {job.id: job for job in [*short, *here] if _waits(job)}
        able = {job.id: _engines(job, views) for job in jobs.values()}
        jobs = {id: job for id, job in jobs.items() if still >= able[id] and able[id].intersection(names)}
        if not jobs or any(space.shortage(job, name) is None for job in jobs.values() for name in able[job.id]):
            continue
        failed, deleting = _left_behind(services, names)
        waiters = [_waiter(job, next(name for name in names if name in able[job.id]), space) for job in jobs.values()]
        waiters += [Waiter(job.id, LAST, NEVER, space.kept(job, job.transfer.engine)) for job in failed if job.transfer]
        paused = sum(max(expected(job) or 0, space.kept(job, job.transfer.engine)) for job in here if _stands(job) and job.transfer)
        left = {job.id: job for job in failed}
        yield Idle({**jobs, **left}, waiters, space.available(names[0]) or 0, paused, deleting)


def _left_behind(services: Services, names: Sequence[str]) -> tuple[list[Job], bool]:
    """Failed jobs whose bytes lie on a volume for another try; and whether bytes lie there that nobody needs, and that are deleted soon."""
    found: set[str] = set()
    for name in names:
        with contextlib.suppress(OSError), os.scandir(os.path.join(services.engines[name].directory, WORK)) as entries:
            found.update(itertools.islice((entry.name for entry in entries if os.path.isdir(os.path.join(entry, name))), LOOK_MAX))
    found = {id for id in found if is_of(id, services.settings.installation)}
    makers, holders = services.store.get({maker(id) for id in found}), services.store.holding(found) if found else []
    held = {job.transfer.id for job in holders if job.transfer}
    failed = [job for job in holders if job.state is State.FAILED and job.transfer and job.transfer.engine in names]
    let_go = [job for id in found - held if (job := makers.get(maker(id))) is not None]
    return failed, any(services.clock.time() - job.updated_at < DELETED_S for job in let_go)


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


def _engines(job: Job, views: Mapping[str, EngineView]) -> set[str]:
    """Those that may take the job now."""
    return {view.name for view in able_engines(job, views) if view.alive and not view.draining}


def _waiter(job: Job, engine: str, space: Space) -> Waiter:
    return Waiter(job.id, job.created_at, space.takes(job, engine), space.kept(job, engine), expected(job) is not None)
