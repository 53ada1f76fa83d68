"""Handing jobs over to an engine: in one call, within the window of each, and with a record of what became of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from worker import tries
from worker.jobs.errors import Transient
from worker.jobs.model import Job, SourceKind
from worker.jobs.states import Cause
from worker.limits import SUBMIT_WINDOW_S
from worker.ports import Change, Engine, Fault, Lease, Order, Services, Step
from worker.supervision import failures, settle

#: Torrents whose files are read into memory and handed over at once; each is 10 MB at most.
DOCUMENTS_MAX = 8
#: Owners of several engines may share a process; what one died with they hand over one after the other, under this claim.
SUSPECTS, SUSPECTS_S = "start:suspects", 15.0

#: What the record of a job becomes once the engine has it; None when it stays as it is.
Taken = Callable[[Job, float], Job | None]


def submit(services: Services, engine: Engine, lease: Lease, jobs: Sequence[Job]) -> list[Job]:
    """Hand jobs over and record what became of each; returns the records that were written. Those that are too many wait.

    No call is begun that could end after a job's `submit_until`; a window that is over is opened anew only after the
    longest call of its time has ended. Whatever crashes in between, the same attempt has the same name at the engine.
    """
    return _hand_over(services, engine, lease, at_once(_in_window(services, engine, lease, jobs)), settle.taken)


def hand_back(services: Services, engine: Engine, lease: Lease, jobs: Sequence[Job]) -> list[Job]:
    """Let what stands still and should run go on; returns the records of those the engine now refuses, as they were written."""
    return _hand_over(services, engine, lease, at_once(jobs), lambda _job, _at: None)


def stops_by_itself(job: Job) -> bool:
    """True when its engine stops once on the way, for the files of a magnet link to be selected; that needs no correction."""
    return bool(job.select) and job.source.kind is SourceKind.MAGNET


def orders(services: Services, jobs: Sequence[Job]) -> list[Order]:
    """What the engine is asked to do for each job, its `.torrent` file in memory; `at_once` bounds how many of those."""
    documents = services.store.torrents({job.description.document for job in jobs if job.description})
    seed_time_s = services.settings.seed_hours * 3600
    return [_order(job, documents, seed_time_s) for job in jobs]


def at_once(jobs: Iterable[Job]) -> list[Job]:
    """The first of these, without those whose `.torrent` files would be too many in one call."""
    chosen: list[Job] = []
    room = DOCUMENTS_MAX
    for job in jobs:
        room -= job.description is not None
        if job.description is None or room >= 0:
            chosen.append(job)
    return chosen


def _order(job: Job, documents: Mapping[str, bytes], seed_time_s: float) -> Order:
    transfer = job.transfer
    assert transfer is not None, f"job {job.id} has no transfer"
    return Order(
        transfer=transfer.id,
        attempt=transfer.attempt,
        source=job.source,
        directory=transfer.directory,
        select=job.select,
        seed_ratio=job.seed_ratio,
        category=job.category,
        document=documents.get(job.description.document) if job.description else None,
        seed_time_s=seed_time_s,
    )


def _hand_over(services: Services, engine: Engine, lease: Lease, jobs: Sequence[Job], taken: Taken) -> list[Job]:
    """Submit jobs and record what became of each. What a process died with waits until there is nothing else; then it goes alone."""
    if not jobs:
        return []
    with tries.together(services, Step.START, [job.id for job in jobs]) as deaths:
        if fresh := [job for job in jobs if job.id not in deaths]:
            return _recorded(services, lease, fresh, _submitted(services, engine, fresh), taken)
    with _turn(services, f"{services.owner}/{engine.name}") as mine:
        least = min(jobs, key=lambda job: deaths[job.id])
        return _hand_over_alone(services, engine, lease, least, taken) if mine else []


def _hand_over_alone(services: Services, engine: Engine, lease: Lease, job: Job, taken: Taken) -> list[Job]:
    with tries.alone(services, Step.START, job.id) as hopeful:
        if hopeful:
            faults = _submitted(services, engine, [job])
        else:
            message = tries.given_up(services, Step.START, job.id, f"it handed the job to {engine.name}")
            faults = [Fault(Cause.WORKER, passing=False, detail=message)]
        return _recorded(services, lease, [job], faults, taken)


@contextlib.contextmanager
def _turn(services: Services, holder: str) -> Iterator[bool]:
    """Whether nobody else hands over what a process died with; without Redis everybody may."""
    try:
        mine = services.coordinator.claim(SUSPECTS, holder, SUSPECTS_S)
    except Transient:
        mine = True
    try:
        yield mine
    finally:
        with contextlib.suppress(Transient):  # it runs out
            services.coordinator.unclaim(SUSPECTS, holder)


def _submitted(services: Services, engine: Engine, jobs: Sequence[Job]) -> list[Fault | None]:
    services.failpoints.hit("start.intent", *(job.id for job in jobs))
    faults = engine.submit(orders(services, jobs))
    services.failpoints.hit("start.submitted", *(job.id for job in jobs))
    return faults


def _recorded(services: Services, lease: Lease, jobs: Sequence[Job], faults: Sequence[Fault | None], taken: Taken) -> list[Job]:
    at, now = services.clock.time(), services.store.now()
    drained = services.drains() if any(faults) else {}
    news = [
        taken(job, at) if fault is None else failures.failed(job, fault, at, now, failures.around(services, job, drained))
        for job, fault in zip(jobs, faults, strict=True)
    ]
    changes = [Change(job, new) for job, new in zip(jobs, news, strict=True) if new is not None]
    return [a.job for a in services.store.apply(changes, lease) if a.won and a.job is not None] if changes else []


def _in_window(services: Services, engine: Engine, lease: Lease, jobs: Sequence[Job]) -> list[Job]:
    now = services.store.now()
    ready, late = [], []
    for job in jobs:
        assert job.transfer is not None, f"job {job.id} has no transfer"
        if now + engine.rpc_timeout_s <= job.transfer.submit_until:
            ready.append(job)
        elif now >= job.transfer.submit_until + engine.rpc_timeout_s:
            late.append(job)
    return ready + _reopened(services, lease, late, now)


def _reopened(services: Services, lease: Lease, jobs: Sequence[Job], now: float) -> list[Job]:
    at = services.clock.time()
    changes = []
    for job in jobs:
        if job.transfer is not None:
            transfer = replace(job.transfer, submit_until=now + SUBMIT_WINDOW_S)
            changes.append(Change(job, job.noted(at, "the engine did not answer; it is handed over again", transfer=transfer)))
    return [a.job for a in services.store.apply(changes, lease) if a.won and a.job is not None] if changes else []
