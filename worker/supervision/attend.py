"""What the owner of an engine does for jobs that its poll does not show: hand over, pause, cancel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from worker import logs, sharing, tries
from worker.jobs.directories import delete_work
from worker.jobs.errors import Transient
from worker.jobs.events import EventType
from worker.jobs.model import Job, SourceKind
from worker.jobs.states import Cause, State, Want
from worker.limits import SUBMIT_WINDOW_S
from worker.ports import Change, Engine, Fault, Item, Lease, Order, Services, Step
from worker.supervision import failures, settle
from worker.supervision.lease import Fenced

log = logs.get(__name__)

#: Torrents whose files are read into memory and handed over at once; each is 10 MB at most.
DOCUMENTS_MAX = 8
#: Owners of several engines may share a process; what one died with they hand over one after the other, under this claim.
SUSPECTS, SUSPECTS_S = "start:suspects", 15.0

#: What the record of a job becomes once the engine has it; None when it stays as it is.
Taken = Callable[[Job, float], Job | None]


@dataclass(slots=True)
class Sorted:
    """Jobs that need the owner, by what is to be done."""

    submit: list[Job] = field(default_factory=list)
    shelve: list[Job] = field(default_factory=list)  # admitted, then paused before the engine was told
    pause: list[Job] = field(default_factory=list)
    cancel: list[Job] = field(default_factory=list)
    stand: list[Job] = field(default_factory=list)  # paused, and others wait for the same content


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
        elif job.state is State.PAUSED and job.want is Want.PAUSE:
            todo.stand.append(job)
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
    return _hand_over(services, engine, lease, at_once(_in_window(services, engine, lease, jobs)), settle.taken)


def stops_by_itself(job: Job) -> bool:
    """True when its engine stops once on the way, for the files of a magnet link to be selected; that needs no correction."""
    return bool(job.select) and job.source.kind is SourceKind.MAGNET


def hand_back(services: Services, engine: Engine, lease: Lease, jobs: Sequence[Job]) -> list[Job]:
    """Let what stands still and should run go on; returns the records of those the engine now refuses, as they were written."""
    return _hand_over(services, engine, lease, at_once(jobs), lambda _job, _at: None)


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


def pass_on(services: Services, lease: Lease, todo: Sorted) -> list[Job]:
    """Hand over what others wait for, and take it out of `todo`; returns the new holders."""
    successors, left = sharing.hand_over(services, lease, [*todo.cancel, *todo.pause, *todo.shelve, *todo.stand])
    dealt_with = {job.id for job in left}
    for jobs in (todo.cancel, todo.pause, todo.shelve):
        jobs[:] = [job for job in jobs if job.id not in dealt_with]
    at = services.clock.time()
    unasked = [Change(job, job.noted(at, reason=None)) for job in todo.stand if job.id not in dealt_with]  # nobody waits any more
    if unasked:
        services.store.apply(unasked, lease)
    return successors


def pause(services: Services, engine: Engine, jobs: Sequence[Job]) -> None:
    """Ask the engine; the next poll shows whether it is true."""
    if jobs:
        engine.pause([_handle(engine, job) for job in jobs])
        services.failpoints.hit("pause.asked")


def remove_spent(services: Services, engine: Engine, handles: Sequence[str]) -> None:
    """Remove what failed; its job has another attempt by now, or has ended."""
    if handles:
        engine.remove(handles)
        services.failpoints.hit("spent.removed")


def cancel(services: Services, engine: Fenced, lease: Lease, jobs: Sequence[Job]) -> list[str]:
    """Remove the jobs at the engine, ask it again, delete what was fetched, and record; returns the handles that are gone."""
    doable = [job for job in jobs if may_cancel(job)]
    if not doable:
        return []
    gone = set(engine.remove([_handle(engine, job) for job in doable]))
    services.failpoints.hit("cancel.removed")
    engine.require()  # somebody else may have it by now, and may have been asked to fetch the job again
    record_cancelled(services, lease, [job for job in doable if _handle(engine, job) in gone])
    return sorted(gone)


def may_cancel(job: Job) -> bool:
    """Whether a job that is to be cancelled has a transfer to end, and is not on its way into place."""
    return job.transfer is not None and not job.terminal and not (job.state is State.FINISHING and job.result is not None)


def record_cancelled(services: Services, lease: Lease, jobs: Sequence[Job], text: str = "cancelled") -> list[Job]:
    """Delete what was fetched of jobs whose engine has forgotten them, or cannot be asked, and record that they are cancelled.

    Returns:
        the records that were written.
    """
    if not jobs:
        return []
    for job in jobs:
        delete_files(services, job)  # before the record says that nothing is left
    services.failpoints.hit("cancel.deleted")
    at = services.clock.time()
    applied = services.store.apply([Change(job, _cancelled(job, at, text)) for job in jobs], lease)
    ended = [(old.transfer, a.job) for old, a in zip(jobs, applied, strict=True) if a.won and a.job and old.transfer]
    sharing.let_go(services, ended)  # a file that nobody may go on with is downloaded anew by those who waited for it
    for _, job in ended:
        services.metrics.ended.labels(job.state, "").inc()
    return [job for _, job in ended]


def delete_files(services: Services, job: Job) -> None:
    """Delete what the engines keep of a job, once nobody needs it any more; idempotent."""
    if job.transfer is not None:
        delete_work(job.transfer, {name: engine.directory for name, engine in services.engines.items()})


def _cancelled(job: Job, at: float, text: str) -> Job:
    return job.moved(State.CANCELLED, at, text, event=EventType.CANCELLED, phase=None, reason=None, transfer=None)


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


def let_go(services: Services, jobs: Iterable[Job]) -> None:
    """Count those of the jobs that have ended, and let go of what they held for others."""
    ended = [job for job in jobs if job.terminal]
    for job in ended:
        services.metrics.ended.labels(job.state, job.cause or "").inc()
    sharing.let_go(services, [(job.transfer, job) for job in ended if job.transfer is not None])
