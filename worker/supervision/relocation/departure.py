"""A job leaves its engine for another one, whatever the reason: another attempt, to which it takes nothing along.

Its record goes first, under the lease of the engine that is left; an engine that can be asked forgets the job then. What a crash leaves
between the two is an item, or a directory, that no record asks for, and is removed as all of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from worker import waiting
from worker.breaker import Circuit
from worker.jobs.directories import delete_work_directory
from worker.jobs.model import Job, Progress, Transfer
from worker.jobs.states import Reason, State
from worker.limits import STEP_BATCH
from worker.ports import Change, Engine, Lease, Services, Step
from worker.supervision.lease import Fenced


def others(services: Services, engine: str) -> list[Engine]:
    """The engines beside this one that are given jobs now, as their owners say. Raises Transient."""
    seen, drained = services.coordinator.snapshots(), services.drains()
    up = {name for name, snapshot in seen.items() if snapshot.error is None and snapshot.breaker != Circuit.OPEN}
    return [other for name, other in services.engines.items() if name in up.difference(drained) and name != engine]


def batches(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """As many as are written at once."""
    return (jobs[start : start + STEP_BATCH] for start in range(0, len(jobs), STEP_BATCH))


def departed(job: Job, why: str, at: float) -> Job:
    """The job as it waits for another engine; nothing of it failed. Pure.

    Args:
        why: it leaves the one it has, in words for the timeline.
        at: wall clock.
    """
    text, attempt = f"{why}; it goes on at another engine, attempt {job.attempt + 1}", job.attempt + 1
    if job.state is State.QUEUED:  # it was resumed, or waits for what its engine had too little of
        return job.noted(at, text, attempt=attempt)
    return job.moved(State.QUEUED, at, text, reason=Reason.ENGINE, message=why, phase=None, attempt=attempt, seeding=False)


def departs(change: Change) -> bool:
    """Whether this is a job that leaves its engine; what else becomes of those there opens no attempt."""
    return change.new.attempt > change.old.attempt


def record(services: Services, lease: Lease, changes: Sequence[Change]) -> list[Change]:
    """Write what becomes of jobs at an engine that is left; those that depart wait for their turn.

    Returns:
        the changes that were made. What somebody else changed meanwhile is found again by the next look.

    Raises:
        LeaseLost: the engine is another's by now; what was changed before stays.
    """
    if not changes:
        return []
    # Nothing of it lies on the volume it goes to: until its new engine shows what does, all of it is owed there.
    blank = {change.old.id: Progress(total=change.old.progress.total) for change in changes if departs(change)}
    if blank:
        services.store.record_progress(blank, lease)
    applied = services.store.apply(changes, lease)
    made = [change for change, answer in zip(changes, applied, strict=True) if answer.won]
    services.failpoints.hit("departure.recorded", *(change.new.id for change in made))
    waiting.enlist(services, [change.new for change in made if departs(change)])
    if made:
        services.nudger.nudge(Step.NOTIFY)
    return made


def forget(engine: Fenced, left: Mapping[str, Transfer]) -> None:
    """Have an engine that answers forget what left it, by handle, and delete what it fetched of that; idempotent.

    Raises:
        LeaseLost: the engine is not ours any more.
    """
    gone = engine.remove(list(left)) if left else []
    engine.require()  # under another owner one of them may have been asked for again, here
    for handle in gone:
        delete_work_directory(left[handle].directory)
