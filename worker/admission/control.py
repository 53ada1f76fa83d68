"""What a user asks of a job: written down as `want`; the owner of the engine brings it about."""

from __future__ import annotations

from worker import logs
from worker.admission.queue import announce, first_reason
from worker.jobs.errors import Conflict, NotFound, Transient
from worker.jobs.events import EventType
from worker.jobs.model import Job
from worker.jobs.states import Action, Cause, Reason, State, Want
from worker.ports import Change, Services, Step

log = logs.get(__name__)

#: Writers that may be met on the way to one record before we give up: the owner of its engine, a step, other users.
COLLISIONS_MAX = 20


def control(services: Services, id: str, action: Action) -> Job:
    """Record what the user wants; idempotent. The returned job may still be on the way there.

    Raises:
        NotFound: no such job.
        Conflict: the job's state does not allow the action.
        Transient: the store does not answer.
    """
    for _ in range(COLLISIONS_MAX):
        job = services.store.get([id]).get(id)
        if job is None:
            raise NotFound("id", f"there is no job {id}", fix="haul list shows the jobs")
        new = intended(job, action, services.clock.time(), probing=services.settings.probes, checking=services.settings.checks)
        if new is job:
            return job
        [applied] = services.store.apply([Change(job, new)])
        if applied.won:
            services.failpoints.hit("control.recorded", id)
            _tell(services, new)
            return new
    raise Transient("store", f"job {id} changes too fast; try again")


def intended(job: Job, action: Action, at: float, *, probing: bool = False, checking: bool = False) -> Job:
    """The job after the action was written down; the same job when nothing is to be done. Raises Conflict."""
    if action is Action.PAUSE:
        return _pause(job, at)
    if action is Action.RESUME:
        return _resume(job, at, first_reason(job, probing=probing, checking=checking))
    if action is Action.CANCEL:
        return _cancel(job, at)
    return _retry(job, at, first_reason(job, probing=probing, checking=checking))


def _pause(job: Job, at: float) -> Job:
    if job.state is State.PAUSED or (job.want is Want.PAUSE and not job.terminal):
        return job
    if job.state is State.QUEUED:
        return job.moved(State.PAUSED, at, "paused", event=EventType.PAUSED, want=Want.PAUSE, reason=None)
    if job.state in (State.SUBMITTING, State.DOWNLOADING) and job.want is Want.RUN:
        return job.noted(at, "pause asked for", want=Want.PAUSE)
    raise _wrong(job, "paused", "queued or downloading")


def _resume(job: Job, at: float, waits: Reason) -> Job:
    if job.state is State.PAUSED and job.want is not Want.CANCEL:
        return job.moved(
            State.QUEUED,
            at,
            "resumed, waits for its turn",
            event=EventType.RESUMED,
            want=Want.RUN,
            reason=waits,
        )
    if job.want is Want.PAUSE and not job.terminal:
        return job.noted(at, "resume asked for", want=Want.RUN)
    if job.want is Want.RUN and not job.terminal:
        return job
    raise _wrong(job, "resumed", "paused")


def _cancel(job: Job, at: float) -> Job:
    if job.state is State.CANCELLED or (job.want is Want.CANCEL and not job.terminal):
        return job
    if job.terminal:
        raise _wrong(job, "cancelled", "not finished")
    if job.state is State.FINISHING and job.result is not None:
        raise Conflict("id", f"job {job.id} is being moved into place", fix="too late to cancel; delete the file when it is done")
    if job.state in (State.QUEUED, State.PAUSED) and job.transfer is None:
        return job.moved(State.CANCELLED, at, "cancelled", event=EventType.CANCELLED, want=Want.CANCEL, reason=None)
    return job.noted(at, "cancel asked for", want=Want.CANCEL)


def _retry(job: Job, at: float, waits: Reason) -> Job:
    if job.state not in (State.FAILED, State.CANCELLED):
        if job.state is State.DONE or job.want is Want.CANCEL:
            raise _wrong(job, "retried", "failed or cancelled")
        return job
    if job.cause is Cause.REFUSED:
        raise Conflict("id", f"job {job.id} was refused: {job.message}", fix="send a corrected request under another key")
    return job.moved(
        State.QUEUED,
        at,
        f"asked for again, attempt {job.attempt + 1}",
        event=EventType.QUEUED,
        want=Want.RUN,
        reason=waits,
        cause=None,
        message=None,
        attempt=job.attempt + 1,
        failures=0,
        avoid=(),
        tried=(),
        engine_deaths=0,
        trial_s=0.0,
        not_before=0.0,
        result=None,
    )


def _wrong(job: Job, done: str, states: str) -> Conflict:
    shown = f"{job.state}, cancel asked for" if job.want is Want.CANCEL and not job.terminal else str(job.state)
    return Conflict("id", f"job {job.id} is {shown} and cannot be {done}", fix=f"only a job that is {states} can be")


def _tell(services: Services, job: Job) -> None:
    if job.state is State.CANCELLED:
        services.metrics.ended.labels(job.state, "").inc()
    try:
        if job.state is State.QUEUED:
            announce(services, [job])
        elif job.state in (State.PAUSED, State.CANCELLED):
            services.coordinator.drop_waiting([job.id])
        if job.transfer is not None:
            services.coordinator.wake(job.transfer.engine)
    except Transient as error:
        log.warning("the wish is recorded, its nudge is not sent", job=job.id, error=str(error))
    services.nudger.nudge(Step.NOTIFY)
