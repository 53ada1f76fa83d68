"""Answers in words a bot can pass on: why a job is where it is, and what runs and waits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from worker.admission import drains, explain, idle
from worker.admission.decide import Admit, Decision, Reject, Wait, decide
from worker.admission.hosts import hosts_now
from worker.admission.rates import crowded, without_token
from worker.admission.standing import Standing, limited, standing, users_waiting
from worker.admission.trials import Trials
from worker.admission.turns import holdings
from worker.admission.views import balance_now, engine_trouble, seen_now, trouble
from worker.jobs.errors import NotFound, Transient
from worker.jobs.model import Job
from worker.jobs.states import IN_SLOT, Phase, Reason, State, Want
from worker.limits import SHORT_LOOK
from worker.ports import Services


@dataclass(frozen=True, slots=True)
class Why:
    """Why a job is where it is.

    Attributes:
        text: a sentence for the user.
        reason: of a queued job that cannot start now.
        ahead: how many of the user's own jobs go before it; None when it does not wait or it is not known.
        retry_in_s: seconds until it is tried again, when that is a matter of time.
        place: about how many-th it is to start, of `of` that wait.
        wait_s: about how long that takes; None when nobody can say.
    """

    job: Job
    text: str
    reason: str | None = None
    ahead: int | None = None
    retry_in_s: float | None = None
    place: int | None = None
    of: int | None = None
    wait_s: float | None = None


def why(services: Services, id: str) -> Why:
    """Explain a job by its record, the engines as they are now, and its place in the queue. Raises NotFound."""
    job = services.store.get([id]).get(id)
    if job is None:
        raise NotFound("id", f"there is no job {id}", fix="haul list shows the jobs")
    return _queued(services, job) if job.state is State.QUEUED else Why(job, _explained(services, job) + _held_up(services, job))


def overview(services: Services) -> dict[str, Any]:
    """What runs and waits, as JSON; live counts from the store, engines as their owners saw them last."""
    counts, snapshots, held = services.store.counts(), services.coordinator.snapshots(), services.store.engine_states()
    drained, now = services.drains(), services.store.now()
    engines = []
    for name, engine in sorted(services.engines.items()):
        seen = snapshots.get(name)
        engines.append(
            {
                "name": name,
                "up": seen is not None and seen.error is None,
                "error": seen.error if seen else "no supervisor has looked at it in the last seconds",
                "kinds": sorted(map(str, engine.features.kinds)),
                "slots": engine.slots,
                "live": sum(n for state, n in held.get(name, {}).items() if state in IN_SLOT),
                "speed": seen.speed if seen else None,
                "limit": seen.limit if seen else None,
                "free_bytes": seen.free_bytes if seen else None,
                "items": seen.items if seen else None,
                "foreign": seen.foreign if seen else None,
                "owner": seen.owner if seen else None,
                "breaker": seen.breaker if seen else None,
                "trouble": trouble(seen, now) if seen else None,
                **drains.shown(services, name, held.get(name, {}), seen, drained),
            }
        )
    return {
        "jobs": {str(state): counts.get(state, 0) for state in State},
        "waiting": services.coordinator.waiting_size(),
        "intake": services.coordinator.intake_size(),
        "parked": services.coordinator.parked_size(),
        **users_waiting(services, now),
        "engines": engines,
    }


def _queued(services: Services, job: Job) -> Why:
    now = services.store.now()
    if job.following:
        return Why(job, _following(services, job.following), str(job.reason))
    try:
        at = standing(services, job, now)
        decision = _decision(services, job, now)
    except Transient as error:
        return Why(job, f"waits; {error}", str(job.reason) if job.reason else None)
    if isinstance(decision, Reject):
        return Why(job, f"it is about to be refused: {decision.text}")
    if isinstance(decision, Admit):
        return Why(job, f"it is about to start on {decision.engine}{_after(at)}", None, at.ahead, place=at.place, of=at.of)
    if decision.reason is not Reason.SLOTS:  # it does not start before something else has changed, whatever its place
        until = max(0.0, decision.until - now) if decision.until is not None else None
        before = explain.so_far(job) if decision.reason is Reason.SCHEDULE else ""
        return Why(job, decision.text + before + _after(at), str(decision.reason), at.ahead, until)
    text = f"{decision.text}; {at.text}" if at.text else decision.text
    return Why(job, text, str(decision.reason), at.ahead, None, at.place, at.of, at.wait_s)


def _decision(services: Services, job: Job, now: float) -> Decision:
    """As the next admission would decide, were it this job's turn."""
    short = services.store.short_of_space(SHORT_LOOK)
    views, space = seen_now(services, short, now)
    held = holdings(services.store.slot_counts(), services.tiers)
    decision = crowded(services.tiers.fresh(), views.values()) or decide(job, views, now, space, balance_now(services))
    if isinstance(decision, Admit) or (isinstance(decision, Wait) and decision.reason is Reason.SLOTS):
        decision = limited(job, held, services.tiers) or decision
    if isinstance(decision, Admit):
        decision = Trials(services, views, now).wait(job) or hosts_now(services).wait(job) or decision
    if isinstance(decision, Wait) and decision.reason is Reason.SPACE:
        return replace(decision, text=decision.text + idle.told(services, views, space, short, job, now))
    return without_token(services, job, now) or decision if isinstance(decision, Admit) else decision


def _after(at: Standing) -> str:
    return f"; {at.ahead} of your own jobs go first" if at.ahead else ""


def _following(services: Services, transfer: str) -> str:
    """How far the download is that others wait for; whose it is stays untold."""
    text = "the same content is downloaded for another request"
    leader = next((holder for holder in services.store.holding([transfer]) if not holder.terminal), None)
    if leader is None or leader.transfer is None:
        return f"{text}, which has just ended"
    if leader.state is State.FINISHING:
        return f"{text}; all bytes are here"
    try:
        fresh = services.coordinator.progress({leader.transfer.engine: [leader.id]}).get(leader.id)
    except Transient:
        fresh = None
    shown = fresh or leader.progress
    return f"{text}; {min(100, 100 * shown.done // shown.total)} % done" if shown.total else text


def _held_up(services: Services, job: Job) -> str:
    """What the engine of a job that needs it does instead of its work; empty when it does that, or when nobody knows."""
    if job.transfer is None or job.state not in (State.SUBMITTING, State.DOWNLOADING, State.FINISHING):
        return ""
    try:
        trouble = engine_trouble(services, job.transfer.engine)
    except Transient:
        return ""
    if trouble is None:
        return ""
    stays = "; it was asked for by name, so the job goes on there when it is back" if job.engine else ""
    return f"; {job.transfer.engine} {trouble}{stays}"


def _explained(services: Services, job: Job) -> str:
    if not job.terminal and job.want is Want.CANCEL:
        return "it is being cancelled"
    if job.state is State.DOWNLOADING and job.want is Want.PAUSE:
        return "it is being paused"
    engine = job.transfer.engine if job.transfer else "an engine"
    words = {
        State.SUBMITTING: f"it is being handed to {engine}",
        State.DOWNLOADING: _downloading(services, job, engine),
        State.PAUSED: "it is paused; resume starts it again",
        State.FINISHING: "all bytes are here; " + (f"it {job.message}" if job.message else "they are checked and moved into place"),
        State.DONE: f"it is done: {job.result.path if job.result else 'in place'}",
        State.FAILED: explain.failed(job),
        State.CANCELLED: "it was cancelled",
    }
    return words[job.state]


def _downloading(services: Services, job: Job, engine: str) -> str:
    doing = {
        Phase.METADATA: "fetches the description of the torrent",
        Phase.CHECKING: "checks what is on disk",
        Phase.STALLED: "gets no bytes at the moment",
    }
    words = f"{engine} {doing.get(job.phase, 'downloads it')}" if job.phase else f"{engine} has it"
    quiet = explain.stalled(job, services.settings, services.clock.time(), services.store.now())
    return f"{words}: {quiet}" if quiet else words + explain.tried(job)
