"""Webhooks: each job's events, posted to its receiver one after the other.

The records say what was taken (`Job.hook`), Redis only who is at it. An event is posted at least once, under the same id each
time, and one that comes later only by somebody who knows that the one before was taken, or given up: by the answer it got itself,
or by a mark, which is written after such an answer. So however many processes post at once, and wherever one of them dies, a
receiver that drops repeats by id sees each job's events in their order.

A job whose event was not taken is put off and holds up no other. A receiver that answered nobody is left alone for a while, with
all its jobs, and every other receiver has threads of its own.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from worker import logs
from worker.jobs.events import Event, published
from worker.jobs.hooks import Hook, host_of, receivers
from worker.jobs.model import Job
from worker.limits import STEP_BUDGET_S
from worker.notify.receiver import ANSWER_S, Receiver
from worker.ports import Change, Services, Step

#: Posts to one receiver at once.
POSTS_MAX = 8
#: So many posts in a row without an answer, and the receiver is taken to be down.
UNANSWERED_MAX = 2
#: A receiver that is down is asked again after this time.
REST_S = 15.0
#: One process at a time posts to a receiver; one that died is waited for so long.
CLAIM_S = 15.0
GIVE_UP_S = 3 * 86_400.0
#: The status by which a receiver says that it never wants this event.
GONE = 410

assert STEP_BUDGET_S + ANSWER_S < CLAIM_S, "a turn ends within its claim"

log = logs.get(__name__)


def drain(services: Services, limit: int) -> int:
    """Give every receiver a turn, all at once; returns how many jobs were dealt with.

    Args:
        limit: of jobs that are read at once.

    Raises:
        Transient: the store or Redis did not answer; what was not marked is posted again.
    """
    found = receivers(services.settings.webhook_addresses)
    if not found:
        return 0
    with ThreadPoolExecutor(len(found)) as pool:
        turns = [pool.submit(_turn, services, name, address, limit) for name, address in found.items()]
    return sum(turn.result() for turn in turns)


def waits(services: Services) -> bool:
    """Whether a receiver has something to be told now; asks the store nothing when there are none."""
    found = receivers(services.settings.webhook_addresses)
    now = services.store.now() if found else 0.0
    return any(services.store.unposted(name, now, 1) for name in found)


def _turn(services: Services, name: str, address: str, limit: int) -> int:
    """Tell a receiver what it has not been told, for 2 s, unless another process does, or it is left alone."""
    claim, holder = f"webhook:{name}", f"{services.owner}/{secrets.token_hex(8)}"
    if not services.coordinator.claim(claim, holder, CLAIM_S):
        return 0
    told, turn = 0, None
    try:
        now = services.store.now()
        while jobs := services.store.unposted(name, turn.now() if turn else now, limit):
            turn = turn or _Turn(services, Receiver(address, services.settings.webhook_secret.get_secret_value()), now)
            told += (moved := turn.tell(jobs))
            if turn.over or not moved:
                break
        if turn and turn.over and not turn.down:
            services.nudger.nudge(Step.WEBHOOK)  # another worker goes on while this one waits for receivers that are slow
        return told
    finally:
        if turn and turn.down:
            services.coordinator.claim(claim, holder, REST_S)
            log.warning("a receiver of webhooks does not answer", host=host_of(address), asked_again_in_s=REST_S)
        else:
            services.coordinator.unclaim(claim, holder)


@dataclass(frozen=True, slots=True)
class _Told:
    """How far a job's events came: its hook as it is to be marked, and the event that is given up, if one is."""

    job: Job
    hook: Hook
    lost: Event | None = None


class _Turn:
    """Some jobs of one receiver, several at once; no post is begun when 2 s are over.

    Args:
        now: the store's clock.
    """

    def __init__(self, services: Services, receiver: Receiver, now: float) -> None:
        self._services = services
        self._receiver = receiver
        self._ends = time.monotonic() + STEP_BUDGET_S
        self._offset = now - time.monotonic()
        self._lock = threading.Lock()
        self._unanswered = 0

    @property
    def down(self) -> bool:
        """Whether the receiver does not answer anybody."""
        return self._unanswered >= UNANSWERED_MAX

    @property
    def over(self) -> bool:
        """Whether nothing more is to be posted in this turn."""
        return self.down or time.monotonic() >= self._ends

    def now(self) -> float:
        """The store's clock, without asking the store again."""
        return self._offset + time.monotonic()

    def tell(self, jobs: Sequence[Job]) -> int:
        """Post what the jobs have to tell; what was taken is marked as it comes in, together with all that came during the last mark."""
        moved = 0
        with ThreadPoolExecutor(POSTS_MAX) as pool:
            under_way = {pool.submit(self._tell, job) for job in jobs}
            try:
                while under_way:
                    done: set[Future[_Told]]
                    done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    moved += self._mark([future.result() for future in done])
            except BaseException:
                self._ends = 0.0  # what was not begun is left
                raise
        return moved

    def _tell(self, job: Job) -> _Told:
        """Post a job's events until one is not taken."""
        assert job.hook is not None
        hook = job.hook
        for event in job.unposted:
            if self.over:
                break
            status = self._post(job, event)
            if status is None or not 200 <= status < 300:
                return self._not_taken(_Told(job, hook), event, status)
            hook = hook.past(event.version)
        return _Told(job, hook)

    def _not_taken(self, told: _Told, event: Event, status: int | None) -> _Told:
        now = self.now()
        hook = told.hook.failed(now)
        log.info("a webhook was not taken", job=told.job.id, host=self._receiver.shown, status=status, failures=hook.failures)
        final = status == GONE or now - hook.failing_since >= GIVE_UP_S
        return _Told(told.job, hook.past(event.version), event) if final else replace(told, hook=hook)

    def _post(self, job: Job, event: Event) -> int | None:
        self._services.failpoints.hit("webhook.post")
        told = published(job.id, job.user, job.key, event)
        body = json.dumps(told, separators=(",", ":")).encode()
        begun = time.monotonic()
        status = self._receiver.post(told["id"], body, self._services.clock.time())
        with self._lock:
            self._unanswered = self._unanswered + 1 if status is None else 0
        outcome = "unanswered" if status is None else "taken" if 200 <= status < 300 else "refused"
        self._services.metrics.webhooks.labels(outcome).observe(time.monotonic() - begun)
        return status

    def _mark(self, told: Sequence[_Told]) -> int:
        """Write down how far the jobs came; returns how many of them moved."""
        moved = [each for each in told if each.hook != each.job.hook]
        if moved:
            self._services.failpoints.hit("webhook.mark")
            noted = [each for each in moved if each.lost is None or self._note(each.job, each.lost)]
            self._services.store.mark_posted({each.job.id: each.hook for each in noted})
        return len(moved)

    def _note(self, job: Job, lost: Event) -> bool:
        """Tell in the job's timeline that an event is given up; false when the job has changed: then it is tried once more."""
        text = f"the webhook at {self._receiver.shown} did not take {lost.type}, which is given up"
        [answer] = self._services.store.apply([Change(job, job.noted(self._services.clock.time(), text))])
        if answer.won:
            self._services.metrics.webhooks_given_up.inc()
        return answer.won
