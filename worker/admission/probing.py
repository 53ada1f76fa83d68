"""The step `probe`: sources are asked for their size, so that admission knows what it promises space for, and looked at by the guard.

A source that an engine found too busy is asked here, too, how long it wants to be left alone: engines do not tell what
`Retry-After` said.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from urllib.parse import urlsplit

from worker import logs
from worker.admission import hops
from worker.admission.hops import Seen
from worker.admission.line import UNRESOLVED
from worker.admission.queue import announce, belongs
from worker.jobs.errors import Transient
from worker.jobs.model import Job
from worker.jobs.states import Cause, State
from worker.limits import STEP_BATCH
from worker.ports import Change, Fault, Services, Step

#: Questions at the same time, of the whole installation, and to one host: a slow one takes no more threads than these.
THREADS = 32
HOST_MAX = 8
#: A host that did not answer in time is asked nothing for so long; the sizes of its files are not known then.
SILENT_S = 30.0
#: A job whose question takes longer, because a resolver does, goes on without an answer, unless it is to be checked.
GIVE_UP_S = 8.0
#: A run goes on for so long while there is work, looks so often for jobs that came meanwhile, and renews its claim so often.
WINDOW_S = 60.0
LOOK_S = 0.25
BEAT_S = 1.0
CLAIM_S = 10.0
#: A look that is due so soon is waited for.
SOON_S = 2.0
#: Records that one look reads at most, in batches; behind them others may wait for the next look.
PAGES_MAX = 5

PROBE = "probe"

log = logs.get(__name__)


def probe(services: Services, limit: int) -> int:  # noqa: ARG001 - every step has this shape
    """Ask the sources of jobs that wait for it, many at once, and what comes meanwhile; returns how many records were written.

    One run is on at a time, in whatever process; the claim only saves double questions. Of an answer only the head is read,
    whose size is bounded: it is not noted who died with it (`worker.tries`).
    """
    holder = f"{services.owner}/{secrets.token_hex(8)}"
    if not services.coordinator.claim(PROBE, holder, CLAIM_S):
        return 0
    run = _Run(services, holder)
    try:
        return run.go_on()
    finally:
        run.end()
        services.coordinator.unclaim(PROBE, holder)


class _Run:
    """The questions of one run."""

    def __init__(self, services: Services, holder: str) -> None:
        self._services = services
        self._holder = holder
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=PROBE)
        self._running: dict[Future[Seen], tuple[Job, float]] = {}
        self._known: list[Job] = []
        self._read_at = float("-inf")
        self._silent: dict[str, float] = {}
        self._busy: dict[str, tuple[float, Fault]] = {}
        self._beat = time.monotonic()

    def go_on(self) -> int:
        """Ask until there is nobody to be asked for, or no time."""
        written, ends = 0, time.monotonic() + WINDOW_S
        while True:
            if time.monotonic() < ends and len(self._running) < THREADS:
                self._begin()
            if not self._running:
                return written
            written += self._record(self._ended())
            if time.monotonic() - self._beat >= BEAT_S:
                self._beat = time.monotonic()
                with contextlib.suppress(Transient):
                    self._services.coordinator.claim(PROBE, self._holder, CLAIM_S)

    def end(self) -> None:
        """Leave what is still being asked to itself; its answers are of no use any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        if not self._known or time.monotonic() - self._read_at >= LOOK_S:
            self._known, self._read_at = self._read(), time.monotonic()
        busy, left = Counter(_host(job) for job, _ in self._running.values()), []
        for job in self._known:
            if busy[_host(job)] < HOST_MAX and len(self._running) < THREADS:
                busy[_host(job)] += 1
                self._running[self._pool.submit(self._asked, job)] = (job, time.monotonic())
            else:
                left.append(job)
        self._known = left

    def _read(self) -> list[Job]:
        """Jobs that wait to be asked for, without those that are."""
        running = {job.id for job, _ in self._running.values()}
        found: list[Job] = []
        for _ in range(PAGES_MAX):
            page = self._services.store.unprobed(STEP_BATCH, after=found[-1].id if found else None)
            found += page
            if len(page) < STEP_BATCH:
                break
        until = self._services.store.now() + SOON_S
        return [job for job in found if job.id not in running and (job.tried or job.not_before <= until)]

    def _asked(self, job: Job) -> Seen:
        host = _host(job)
        if job.not_before and not job.tried:
            time.sleep(max(0.0, job.not_before - self._services.store.now()))
        until, busy = self._busy.get(host, (0.0, None))
        left_s = until - time.monotonic()
        try:
            found = hops.seen(self._services, job, silent=left_s > 0 or time.monotonic() < self._silent.get(host, 0.0))
        except Transient:
            raise
        except Exception as error:
            log.exception("a source could not be looked at because of a fault in Haul", job=job.id)
            detail = f"a fault in Haul, {type(error).__name__}; its log tells more"
            return Seen(fault=Fault(Cause.WORKER, False, detail)) if self._checked(job) else Seen()
        if busy is not None and left_s > 0:  # one of its jobs was told, and the others need not ask
            return replace(found, unanswered=replace(busy, retry_after_s=left_s))
        if found.unanswered is not None:
            log.debug("a source did not tell its size", job=job.id, why=found.unanswered.detail)
            self._note(host, found.unanswered)
        return found

    def _note(self, host: str, fault: Fault) -> None:
        if fault.cause is Cause.UNREACHABLE and fault.passing:
            self._silent[host] = time.monotonic() + SILENT_S
        if fault.cause is Cause.BUSY and fault.retry_after_s:
            self._busy[host] = (time.monotonic() + fault.retry_after_s, fault)

    def _checked(self, job: Job) -> bool:
        return job.guarded and self._services.settings.checks

    def _ended(self) -> list[tuple[Job, Seen]]:
        done = wait(self._running, LOOK_S, FIRST_COMPLETED).done
        answers = [(self._running.pop(future)[0], future.result()) for future in done]
        late = [future for future, (_, begun) in self._running.items() if time.monotonic() - begun >= GIVE_UP_S]
        given_up = [self._running.pop(future)[0] for future in late]
        return answers + [(job, Seen(fault=UNRESOLVED if self._checked(job) else None)) for job in given_up]

    def _record(self, answers: list[tuple[Job, Seen]]) -> int:
        """Write down what was said. Jobs that were changed meanwhile are asked for again, if they still need it."""
        if not answers:
            return 0
        services, at, now = self._services, self._services.clock.time(), self._services.store.now()
        ids = [job.id for job, _ in answers]
        services.failpoints.hit("probe.asked", *ids)
        applied = services.store.apply([Change(job, hops.after(job, found, at, now)) for job, found in answers])
        services.failpoints.hit("probe.recorded", *ids)
        told = [a.job for a in applied if a.won and a.job is not None]
        failed = [job for job in told if job.state is State.FAILED]
        for job in failed:
            services.metrics.ended.labels(job.state, job.cause or "").inc()
        if failed:
            services.nudger.nudge(Step.NOTIFY)
        announce(services, [job for job in told if belongs(job)])
        return len(told)


def _host(job: Job) -> str:
    """Whom its question goes to; of a torrent and a magnet link nobody alone, so they are in nobody's way."""
    return urlsplit(job.source.uri).netloc.rpartition("@")[2] or job.id
