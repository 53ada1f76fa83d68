"""What the owner of an engine does for jobs that its poll does not show: hand over, pause, cancel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from worker import logs
from worker.jobs.directories import delete_work_directory
from worker.jobs.events import EventType
from worker.jobs.model import Job
from worker.jobs.states import State, Want
from worker.limits import SUBMIT_WINDOW_S
from worker.ports import Change, Engine, Item, Lease, Order, Services
from worker.supervision import settle

log = logs.get(__name__)

#: Torrents whose files are read into memory and handed over at once; each is 10 MB at most.
DOCUMENTS_MAX = 8


@dataclass(slots=True)
class Sorted:
    """Jobs that need the owner, by what is to be done."""

    submit: list[Job] = field(default_factory=list)
    shelve: list[Job] = field(default_factory=list)  # admitted, then paused before the engine was told
    pause: list[Job] = field(default_factory=list)
    cancel: list[Job] = field(default_factory=list)


def sort(jobs: Sequence[Job]) -> Sorted:
    """What each job needs; pure."""
    todo = Sorted()
    for job in jobs:
        if job.want is Want.CANCEL:
            todo.cancel.append(job)
        elif job.state is State.SUBMITTING:
            (todo.submit if job.want is Want.RUN else todo.shelve).append(job)
        elif job.state is State.DOWNLOADING and job.want is Want.PAUSE:
            todo.pause.append(job)
    return todo


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


def submit(services: Services, engine: Engine, lease: Lease, jobs: Sequence[Job]) -> list[Job]:
    """Hand jobs over and record what became of each; returns the records that were written. Those that are too many wait.

    No call is begun that could end after a job's `submit_until`; a window that is over is opened anew only after the
    longest call of its time has ended. Whatever crashes in between, the same attempt has the same name at the engine.
    """
    ready = at_once(_in_window(services, engine, lease, jobs))
    if not ready:
        return []
    services.failpoints.hit("start.intent")
    faults = engine.submit(orders(services, ready))
    services.failpoints.hit("start.submitted")
    at, now = services.clock.time(), services.store.now()
    news = [_taken(job, at) if fault is None else settle.failed(job, fault, at, now) for job, fault in zip(ready, faults, strict=True)]
    applied = services.store.apply([Change(job, new) for job, new in zip(ready, news, strict=True) if new is not None], lease)
    return [a.job for a in applied if a.won and a.job is not None]


def hand_back(services: Services, engine: Engine, lease: Lease, jobs: Sequence[Job]) -> list[Job]:
    """Let what stands still and should run go on; returns the records of those the engine now refuses, as they were written."""
    chosen = at_once(jobs)
    faults = engine.submit(orders(services, chosen))
    at, now = services.clock.time(), services.store.now()
    refused = [(job, fault) for job, fault in zip(chosen, faults, strict=True) if fault is not None]
    changes = [Change(job, new) for job, fault in refused if (new := settle.failed(job, fault, at, now)) is not None]
    return [a.job for a in services.store.apply(changes, lease) if a.won and a.job is not None] if changes else []


def shelve(services: Services, engine: Engine, lease: Lease, jobs: Sequence[Job], items: Mapping[str, Item]) -> list[Job]:
    """Jobs paused while they were being handed over: those the engine has are recorded as there, the others as paused.

    Returns:
        their records, to be watched: should a call that got no answer reach the engine after all, its poll shows it.
    """
    at = services.clock.time()
    changes = []
    for job in jobs:
        if _handle(engine, job) in items:
            changes.append(Change(job, job.moved(State.DOWNLOADING, at, f"{engine.name} has it")))
        else:
            changes.append(Change(job, job.moved(State.PAUSED, at, "paused", event=EventType.PAUSED)))
    return [a.job for a in services.store.apply(changes, lease) if a.won and a.job is not None]


def pause(engine: Engine, jobs: Sequence[Job]) -> None:
    """Ask the engine; the next poll shows whether it is true."""
    if jobs:
        engine.pause([_handle(engine, job) for job in jobs])


def cancel(services: Services, engine: Engine, lease: Lease, jobs: Sequence[Job]) -> list[str]:
    """Remove the jobs at the engine, ask it again, delete what was fetched, and record; returns the handles that are gone."""
    doable = [job for job in jobs if _may_cancel(job)]
    if not doable:
        return []
    gone = set(engine.remove([_handle(engine, job) for job in doable]))
    services.failpoints.hit("cancel.removed")
    removed = [job for job in doable if _handle(engine, job) in gone]
    for job in removed:
        delete_files(job)  # before the record says that nothing is left
    at = services.clock.time()
    services.store.apply([Change(job, _cancelled(job, at)) for job in removed], lease)
    return sorted(gone)


def delete_files(job: Job) -> None:
    """Delete what an engine keeps of a job, once nobody needs it any more; idempotent."""
    if job.transfer is not None:
        delete_work_directory(job.transfer.directory)


def _cancelled(job: Job, at: float) -> Job:
    return job.moved(State.CANCELLED, at, "cancelled", event=EventType.CANCELLED, phase=None, reason=None, transfer=None)


def _may_cancel(job: Job) -> bool:
    return job.transfer is not None and not (job.state is State.FINISHING and job.result is not None)


def _handle(engine: Engine, job: Job) -> str:
    assert job.transfer is not None, f"job {job.id} has no transfer"
    return engine.handle(job.transfer.id, job.transfer.attempt)


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


def _taken(job: Job, at: float) -> Job:
    engine = job.transfer.engine if job.transfer else None
    return job.moved(
        State.DOWNLOADING, at, f"{engine} has it", event=EventType.STARTED, data={"engine": engine, "attempt": job.attempt}, message=None
    )
