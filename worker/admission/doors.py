"""The two doors: a request becomes a record, once, however often it is asked for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from worker import logs, tries
from worker.admission import egress
from worker.admission.control import control
from worker.admission.decide import beyond_all
from worker.admission.never import never_fits
from worker.admission.queue import announce, first_reason
from worker.admission.quotas import Quotas, count_refusals, spend_requests
from worker.jobs import requests
from worker.jobs.errors import Conflict, NoRoom, Rejected, Transient
from worker.jobs.events import Event, EventType
from worker.jobs.hooks import hook_of
from worker.jobs.model import Job, Request, Source, SourceKind, job_id, new_job
from worker.jobs.probe import Probe
from worker.jobs.states import Action, Cause, Reason, State
from worker.limits import INTAKE_CLAIM_S
from worker.ports import Change, Inserted, IntakeEntry, Services, Step

INTAKE = "intake"
TURN_WAIT_S = 1.0
TURN_RETRY_S = 0.02

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The record of a request; `created` is false when its key was known."""

    job: Job
    created: bool


def accept(services: Services, asked: Sequence[Request]) -> list[Accepted | Rejected]:
    """Record each request and answer for each, in order; safe to repeat.

    An answer of `Accepted` means the record is durable. `Conflict` means the key is known with another source. A refusal with
    `retry_after_s` is of a limit: too many requests, a full queue, the bytes of the day.

    Raises:
        Transient: the store does not answer; nothing was recorded, or what was is found again by its key.
    """
    quotas, spent = Quotas(services), spend_requests(services, asked)
    answers: list[Accepted | Rejected] = [
        refusal or _refusal(services, request, quotas) or Accepted(_new(services, request), True)
        for request, refusal in zip(asked, spent, strict=True)
    ]
    fresh = [answer.job for answer in answers if isinstance(answer, Accepted)]
    recorded = iter(record(services, fresh))
    told = [answer if isinstance(answer, Rejected) else _answer(answer.job, next(recorded)) for answer in answers]
    count_refusals(services, (answer for answer in told if isinstance(answer, Rejected)))
    return told


def _new(services: Services, request: Request, id: str | None = None) -> Job:
    """The record of a request that may be taken, to be written; its `.torrent` file, if it came with one, is in the store by then.

    A crash in between leaves a file that no record names: the same request finds it again, or retention lets it go.
    """
    if request.document is not None:
        services.store.keep_torrent(request.document)
        services.failpoints.hit("accept.kept")
    job = new_job(request, services.clock.time(), id)
    settings = services.settings
    reason = first_reason(job, probing=settings.probes, checking=settings.checks, document=request.document)
    looked_at = Probe() if reason is Reason.TURN and request.document is not None else None
    return replace(job, reason=reason, probe=looked_at, hook=hook_of(request.webhook, settings.webhook_addresses))


def record(services: Services, jobs: Sequence[Job]) -> list[Inserted]:
    """Write the records, then let the steps know; a lost word is made up for by the sweep."""
    inserted = services.store.insert(jobs) if jobs else []
    services.failpoints.hit("accept.recorded")
    created = [entry.job for entry in inserted if entry.created]
    announce(services, created)
    if created:
        services.nudger.nudge(Step.NOTIFY)
    return inserted


def intake(services: Services, limit: int) -> int:
    """Turn unread messages of the intake into records and actions, in their order; returns how many were read.

    A message is acknowledged only after what it asks for is recorded. One that cannot be understood is parked. One intake
    runs at a time; when it fails, what it had read is read again before anything newer.
    """
    holder = f"{services.owner}/{secrets.token_hex(8)}"  # not the thread's: a failed run stays in the way of the next
    if not _my_turn(services, holder):
        return 0
    entries = services.coordinator.take_intake(services.owner, limit)
    wrong = [entry for entry in entries if not _understood(entry)]
    if wrong:
        _park(services, wrong)
    good = [entry for entry in entries if _understood(entry)]
    with tries.together(services, Step.INTAKE, [entry.id for entry in good]) as suspects:
        for batch in _batches(good, suspects):
            if batch[0].id in suspects:
                _handle_alone(services, batch[0])
            else:
                _handle(services, batch)
            services.coordinator.claim(INTAKE, holder, INTAKE_CLAIM_S)
    services.coordinator.unclaim(INTAKE, holder)
    return len(entries)


def _batches(entries: Sequence[IntakeEntry], suspects: Collection[str]) -> list[list[IntakeEntry]]:
    """What is dealt with at once, in order: messages of a kind; alone one with a `.torrent` file, which takes time, and a suspect."""

    def key(entry: IntakeEntry) -> tuple[str, str | None]:
        body = entry.body or {}
        takes_time = body["kind"] == "request" and "torrent" in body["spec"]
        return body["kind"], entry.id if takes_time or entry.id in suspects else None

    return [list(group) for _, group in groupby(entries, key)]


def _my_turn(services: Services, holder: str) -> bool:
    """Wait a moment for the intake that runs; if it goes on for longer, it looks again after the message we were told of."""
    deadline = time.monotonic() + TURN_WAIT_S
    while not (mine := services.coordinator.claim(INTAKE, holder, INTAKE_CLAIM_S)) and time.monotonic() < deadline:
        time.sleep(TURN_RETRY_S)
    return mine


def _handle_alone(services: Services, entry: IntakeEntry) -> None:
    """Deal with a message that a process died with; after too many it is parked."""
    with tries.alone(services, Step.INTAKE, entry.id) as hopeful:
        if hopeful:
            _handle(services, [entry])
        else:
            tries.given_up(services, Step.INTAKE, entry.id, "it dealt with the message")
            _park(services, [entry])


def _handle(services: Services, entries: Sequence[IntakeEntry]) -> None:
    """Do what messages of one kind ask for and acknowledge them; one that we fail over is parked and holds up no other."""
    bodies = [entry.body or {} for entry in entries]
    try:
        _HANDLERS[bodies[0]["kind"]](services, bodies)
    except Transient:
        raise
    except Exception:
        if len(entries) > 1:
            for entry in entries:
                _handle(services, [entry])
            return
        log.exception("a message of the intake cannot be dealt with; it is parked", message=entries[0].id)
        _park(services, entries)
        return
    services.failpoints.hit("intake.recorded")
    services.coordinator.ack_intake([entry.id for entry in entries])


def _park(services: Services, entries: Sequence[IntakeEntry]) -> None:
    services.metrics.parked.inc(len(entries))
    services.coordinator.park_intake(entries)


def enqueue(services: Services, body: Mapping[str, Any]) -> None:
    """Record one request that came as a message; what is wrong with it is told by the event `job.refused`.

    Raises:
        Rejected: it is no request, or there is no user to tell.
    """
    if not _understood(IntakeEntry("", body)):
        raise Rejected("user", "a request needs a source and a user", fix='send {"source": {"uri": …}, "user": …, "key": …}')
    _enqueue_all(services, [body])


def _enqueue_all(services: Services, bodies: Sequence[Mapping[str, Any]]) -> None:
    quotas = Quotas(services)
    jobs = [_from_message(services, body, quotas) for body in bodies]
    services.failpoints.hit("intake.taken", *(job.id for job in jobs))
    for job, entry in zip(jobs, record(services, jobs), strict=True):
        if isinstance(_answer(job, entry), Rejected):
            _tell_conflict(services, entry.job, job)


def _control_all(services: Services, bodies: Sequence[Mapping[str, Any]]) -> None:
    for body in bodies:
        try:
            control(services, str(body["job"]), Action(body["action"]))
        except Rejected as refusal:
            log.info("an action was refused", job=body["job"], action=body["action"], why=str(refusal))


_HANDLERS: Mapping[str, Callable[[Services, Sequence[Mapping[str, Any]]], None]] = {"request": _enqueue_all, "control": _control_all}


def _understood(entry: IntakeEntry) -> bool:
    body = entry.body or {}
    if body.get("kind") == "control":
        return isinstance(body.get("job"), str) and body.get("action") in set(Action)
    spec = body.get("spec")
    if body.get("kind") != "request" or not isinstance(spec, Mapping) or not isinstance(spec.get("user"), str | int):
        return False
    return bool(spec["user"]) and _writable(f"{spec['user']}{spec.get('key')}{spec.get('uri')}")


def _writable(text: str) -> bool:
    """False for half a surrogate pair, which no store can write down."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refusal(services: Services, request: Request, quotas: Quotas) -> Rejected | None:
    try:
        _allowed(services, request)
        quotas.check(request)
    except Rejected as refusal:
        return refusal
    return None


def _allowed(services: Services, request: Request) -> None:
    hook_of(request.webhook, services.settings.webhook_addresses)
    if request.guarded:
        egress.check(request.source, services.settings.allow_networks, request.document)
    engines = services.engines
    if request.engine is not None and request.engine not in engines:
        raise Rejected("engine", f"there is no engine {request.engine!r}", fix=f"one of: {', '.join(sorted(engines)) or 'none'}")
    field, job = "torrent" if request.document is not None else "uri", new_job(request, 0.0)
    if what := unfetchable(services, job):
        raise Rejected(field, what, fix="ask the operator to add an engine that can")
    if what := never_fits(services, job):
        raise NoRoom(field, what, fix="select some of its files, or ask the operator for a larger disk")


def unfetchable(services: Services, job: Job) -> str | None:
    """Why none of the engines, or not the one the job names, can ever fetch it; None when one can, or when there is none at all."""
    engines = [engine.features for name, engine in services.engines.items() if job.engine in (None, name)]
    what = beyond_all(job, engines)
    who = f"engine {job.engine} cannot" if job.engine else "no engine here can"
    return f"{who} fetch {what}" if what else None


def _answer(job: Job, entry: Inserted) -> Accepted | Rejected:
    known = entry.job
    if entry.created or (known.content == job.content and known.user == job.user):
        return Accepted(known, entry.created)
    return Conflict(
        "key", f"{job.key!r} is known with another source, in job {known.id}", fix="use another key, or repeat the first request"
    )


def _from_message(services: Services, body: Mapping[str, Any], quotas: Quotas) -> Job:
    spec, at = dict(body["spec"]), services.clock.time()
    id = body.get("id")
    known_id = id if isinstance(id, str) and len(id) == len(job_id("", "")) and id.isalnum() else None
    try:
        request = requests.parse({name: value for name, value in spec.items() if value is not None})
        _allowed(services, request)
        quotas.check(request, known_id)
        return _new(services, request, known_id)
    except Rejected as refusal:
        count_refusals(services, [refusal])
        addresses, named = services.settings.webhook_addresses, spec.get("webhook")
        hook = hook_of(named if named in addresses else None, addresses)
        return replace(_refused(spec, refusal, at, known_id), hook=hook)


def _refused(spec: Mapping[str, Any], refusal: Rejected, at: float, id: str | None) -> Job:
    key = str(spec["key"])[: requests.KEY_BYTES_MAX] if spec.get("key") is not None else None
    user = str(spec["user"])[: requests.USER_BYTES_MAX]
    source = Source(SourceKind.HTTP, str(spec.get("uri") or "")[: requests.URI_BYTES_MAX])
    base = new_job(Request(source, user, key), at, id)
    event = Event(1, at, f"refused: {refusal}", EventType.REFUSED, {"field": refusal.field, "reason": refusal.detail, "fix": refusal.fix})
    return replace(base, state=State.FAILED, cause=Cause.REFUSED, reason=None, message=str(refusal), events=(event,))


def _tell_conflict(services: Services, known: Job, asked: Job) -> None:
    told = any(event.type is EventType.REFUSED and event.data.get("content") == asked.content for event in known.events)
    if told or known.user != asked.user:
        return
    text = "refused: the same key was asked for with another source; this job stays as it is"
    data = {"field": "key", "reason": "known with another source", "content": asked.content}
    noted = known.noted(services.clock.time(), text, event=EventType.REFUSED, data=data)
    services.store.apply([Change(known, noted)])
    services.nudger.nudge(Step.NOTIFY)
