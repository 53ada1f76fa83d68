"""What the owner of an engine does for jobs that its poll does not show: hand over, pause, cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from worker import sharing
from worker.jobs.events import EventType
from worker.jobs.model import Job
from worker.jobs.states import State, Want
from worker.limits import STEP_BATCH
from worker.ports import Change, Engine, Item, Lease, Services, Step
from worker.supervision import endings, submission
from worker.supervision.again import Again
from worker.supervision.lease import Fenced, Held
from worker.supervision.leftovers import Leftovers
from worker.supervision.watchlist import Watchlist


class Attendance:
    """At one engine, by its owner."""

    def __init__(self, services: Services, engine: Fenced, held: Held, watchlist: Watchlist, leftovers: Leftovers, again: Again) -> None:
        self._services, self._engine, self._held = services, engine, held
        self._watchlist, self._leftovers, self._again = watchlist, leftovers, again

    def serve(self, lease: Lease) -> int:
        """Do what the records ask, while there is something to do and time for it; returns how many downloads started."""
        total = 0
        while jobs := self._services.store.needing_owner(self._engine.name, STEP_BATCH):
            todo = sort(jobs)
            if not self._held.has_time_for(self._engine.rpc_timeout_s):
                break
            self._watchlist.watch(todo.submit)  # should there be no answer, the next look shows what came of it
            handed = submission.submit(self._services, self._engine, lease, todo.submit)
            self._again.queue(handed)
            self._watchlist.watch(handed)
            endings.let_go(self._services, handed)
            successors = pass_on(self._services, lease, todo)
            self._watchlist.watch(successors)
            self._again.queue(successors)
            pause(self._services, self._engine, todo.pause)
            if todo.shelve:
                self._watchlist.watch(shelve(self._services, self._engine, lease, todo.shelve, self._engine.poll().items))
            for handle in cancel(self._services, self._engine, lease, todo.cancel):
                self._watchlist.drop([handle])
                self._leftovers.forget(handle)
            if handed or todo.shelve or todo.cancel:
                self._services.nudger.nudge(Step.NOTIFY)
            if todo.shelve or todo.cancel:
                self._services.nudger.nudge(Step.ADMIT)
            total += sum(job.state is State.DOWNLOADING for job in handed)
            if not handed or (len(jobs) < STEP_BATCH and len(handed) == len(todo.submit)):
                break
        return total


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


def cancel(services: Services, engine: Fenced, lease: Lease, jobs: Sequence[Job]) -> list[str]:
    """Remove the jobs at the engine, ask it again, delete what was fetched, and record; returns the handles that are gone."""
    doable = [job for job in jobs if endings.may_cancel(job)]
    if not doable:
        return []
    gone = set(engine.remove([_handle(engine, job) for job in doable]))
    services.failpoints.hit("cancel.removed")
    engine.require()  # somebody else may have it by now, and may have been asked to fetch the job again
    endings.record_cancelled(services, lease, [job for job in doable if _handle(engine, job) in gone])
    return sorted(gone)


def remove_spent(services: Services, engine: Engine, handles: Sequence[str]) -> None:
    """Remove what failed; its job has another attempt by now, or has ended."""
    if handles:
        engine.remove(handles)
        services.failpoints.hit("spent.removed")


def _handle(engine: Engine, job: Job) -> str:
    assert job.transfer is not None, f"job {job.id} has no transfer"
    return engine.handle(job.transfer.id, job.transfer.attempt)
