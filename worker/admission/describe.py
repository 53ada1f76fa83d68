"""The step `describe`: the `.torrent` file that a job's URL names is fetched by us, read, and kept, before admission sees the job."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

from worker import logs, tries
from worker.admission import hops
from worker.admission.doors import unfetchable
from worker.admission.fetch import fetch
from worker.admission.line import Refused
from worker.admission.queue import announce
from worker.jobs import torrents
from worker.jobs.description import Description
from worker.jobs.errors import Rejected, Transient
from worker.jobs.events import EventType
from worker.jobs.model import Job
from worker.jobs.retries import POLICIES, span, spread
from worker.jobs.states import Cause, Reason, State
from worker.limits import STEP_BATCH
from worker.ports import Change, Fault, Services, Step

#: Fetches at the same time, of the whole installation.
THREADS = 8
#: One run of the step goes on for so long while there is work, and ends when what it has begun by then is done.
WINDOW_S = 60.0
#: How often a run looks for jobs that came meanwhile and renews its claim, which lasts `CLAIM_S`.
BEAT_S = 1.0
CLAIM_S = 10.0
#: A retry that is due so soon is waited for.
SOON_S = 2.0

DESCRIBE = "describe"

log = logs.get(__name__)


def describe(services: Services, limit: int) -> int:  # noqa: ARG001 - every step has this shape
    """Fetch what is due, several at once, and what comes meanwhile; returns how many records were written.

    One run is on at a time, in whatever process: slow servers take a thread of one worker and leave the others to their work.
    The claim only saves double work, and a run that died is followed by another soon.
    """
    holder = f"{services.owner}/{secrets.token_hex(8)}"
    if not services.coordinator.claim(DESCRIBE, holder, CLAIM_S):
        return 0
    try:
        return _describe_all(services, holder)
    finally:
        services.coordinator.unclaim(DESCRIBE, holder)


def _describe_all(services: Services, holder: str) -> int:
    written, ends = 0, time.monotonic() + WINDOW_S
    running: dict[Future[bool | None], Job] = {}
    suspects: list[Job] = []
    with ThreadPoolExecutor(THREADS) as pool:
        while True:
            if time.monotonic() < ends and not suspects:
                due = _due(services, THREADS - len(running), {job.id for job in running.values()})
                running |= {pool.submit(_described, services, job): job for job in due}
            elif suspects and not running:  # nothing else goes on: should the process die now, it is this job's doing
                running[pool.submit(_described_alone, services, suspects[0])] = suspects[0]
            if not running:
                return written
            for fetched in wait(running, BEAT_S, FIRST_COMPLETED).done:
                job, outcome = running.pop(fetched), fetched.result()
                suspects = [*suspects, job] if outcome is None else [other for other in suspects if other.id != job.id]
                written += outcome or 0
            with contextlib.suppress(Transient):
                services.coordinator.claim(DESCRIBE, holder, CLAIM_S)


def _due(services: Services, limit: int, without: Collection[str]) -> list[Job]:
    """Jobs to be fetched for now or soon."""
    until, after = services.store.now() + SOON_S, None
    due: list[Job] = []
    while len(due) < limit and (page := services.store.undescribed(STEP_BATCH, after=after)):
        due += [job for job in page if job.not_before <= until and job.id not in without]
        after = page[-1].id
    return due[:limit]


def _described(services: Services, job: Job) -> bool | None:
    """Fetch for one job and record what came of it; None when a process died with it: then it is left for later."""
    time.sleep(max(0.0, job.not_before - services.store.now()))
    with tries.together(services, Step.DESCRIBE, [job.id]) as suspects:
        return None if suspects else _recorded(services, job, _fetched(services, job))


def _described_alone(services: Services, job: Job) -> bool:
    with tries.alone(services, Step.DESCRIBE, job.id) as hopeful:
        if hopeful:
            return _recorded(services, job, _fetched(services, job))
        message = tries.given_up(services, Step.DESCRIBE, job.id, "it fetched and read the .torrent file")
        return _recorded(services, job, Fault(Cause.WORKER, passing=False, detail=message))


def _recorded(services: Services, job: Job, outcome: Description | Fault) -> bool:
    """Write down what came of a fetch; false when the job was changed meanwhile."""
    new = described(job, outcome, services.clock.time(), services.store.now())
    [applied] = services.store.apply([Change(job, new)])
    services.failpoints.hit("describe.recorded", job.id)
    if not applied.won:
        return False
    if new.state is State.FAILED:
        services.metrics.ended.labels(new.state, new.cause or "").inc()
        services.nudger.nudge(Step.NOTIFY)
    elif new.description is not None:
        announce(services, [new])
    return True


def _fetched(services: Services, job: Job) -> Description | Fault:
    """What the file says, once it is in the store. A crash behind that leaves one that no record names; it is found again."""
    try:
        document = fetch(job.source.uri, torrents.TORRENT_BYTES_MAX, services.settings.allow_networks if job.guarded else None)
        if isinstance(document, Fault):
            return document
        about = torrents.describe(document, job.select)
        if job.guarded:
            document = hops.judged(document, services.settings)
            about = replace(about, document=hashlib.sha256(document).hexdigest())
        services.store.keep_torrent(document)
        services.failpoints.hit("describe.kept", job.id)
    except Refused as refused:
        return refused.fault
    except Rejected as refusal:
        words = f"the .torrent file {refusal.detail}" if refusal.field == "torrent" else refusal.detail
        return Fault(Cause.SOURCE, False, words)
    except Transient:
        raise
    except Exception as error:
        log.exception("a job could not be described because of a fault in Haul", job=job.id)
        return Fault(Cause.WORKER, False, f"a fault in Haul, {type(error).__name__}; its log tells more")
    what = unfetchable(services, replace(job, description=about))
    return Fault(Cause.UNSUPPORTED, False, what) if what else about


def described(job: Job, outcome: Description | Fault, at: float, now: float) -> Job:
    """The job after a fetch: it waits for its turn, or for another try, or has failed, by cause.

    Args:
        at: wall clock.
        now: the store's clock.
    """
    if isinstance(outcome, Description):
        text = f"the torrent has {outcome.files} file{'s' if outcome.files > 1 else ''}, {outcome.size} bytes"
        return job.noted(at, text, description=outcome, reason=Reason.TURN, message=None, failures=0, not_before=0.0)
    policy = POLICIES[outcome.cause]
    if outcome.passing and job.failures < policy.tries:
        wait_s = max(policy.backoff_s(job.failures), spread(outcome.retry_after_s or 0.0))
        text = f"{outcome.detail}; its .torrent file is fetched again in {span(wait_s)}"
        return job.noted(at, text, reason=Reason.DESCRIPTION, message=outcome.detail, failures=job.failures + 1, not_before=now + wait_s)
    text, data = f"failed: {outcome.detail}", {"cause": str(outcome.cause), "reason": outcome.detail}
    return job.moved(State.FAILED, at, text, event=EventType.FAILED, data=data, cause=outcome.cause, message=outcome.detail, reason=None)
