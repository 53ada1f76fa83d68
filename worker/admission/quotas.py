"""What a door asks before it records a job: a token of the user's request bucket, room in the queue, bytes left of the day."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from worker import logs
from worker.jobs.errors import Conflict, Rejected, Transient
from worker.jobs.events import EventType
from worker.jobs.model import Job, Request, job_id, new_job
from worker.jobs.needs import announced
from worker.jobs.states import Cause, State
from worker.jobs.tiers import Limits, Tier
from worker.ports import Services, Usage

#: After how long it is worth asking again when a queue is full: jobs start in their own time.
QUEUE_RETRY_S = 30.0
#: Fields of a refusal that name a rule of the operator's; any other is what the user got wrong.
RULES: Collection[str] = frozenset({"rate", "queue", "bytes", "size", "tier", "engine"})

log = logs.get(__name__)


class Quotas:
    """The quotas of one batch of requests; counts what the batch itself adds.

    Doors that run at once do not see each other's requests, so a queue may be longer than it should by as many as are asked for at once.

    Raises:
        Transient: there is a file of tiers, and it was not good once.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._limits = services.tiers.fresh()
        self._day_s = day_of(services)
        self._usage: dict[str, Usage] = {}
        self._added: dict[str, int] = {}
        self._queued: int | None = None

    def check(self, request: Request, id: str | None = None) -> None:
        """Raise Rejected when the request may not be taken; one that is recorded already may.

        Args:
            id: of the job, when it has one already; that of the request's key is known.
        """
        check_tier(request.tier, self._limits)
        tier = self._limits.of(request.tier, request.user)
        refusal = self.refusal(request, tier)
        if refusal is None:
            self._added[request.user] = self._added.get(request.user, 0) + 1
        elif not self._known(request, id):
            raise refusal

    def refusal(self, request: Request, tier: Tier) -> Rejected | None:
        """Why the request would be refused now, were it new; None when it would not."""
        if refusal := too_large(announced(new_job(request, 0.0)), tier):
            return refusal
        everybody = self._limits.overall.queued
        if everybody is not None and self._waiting() + sum(self._added.values()) >= everybody:
            return Rejected("queue", f"{everybody} jobs wait already", fix="ask again later", retry_after_s=QUEUE_RETRY_S)
        if tier.queued is None and tier.bytes_a_day is None:
            return None
        usage = self._of(request.user)
        if tier.queued is not None and usage.queued + self._added.get(request.user, 0) >= tier.queued:
            text = f"{request.user} has {tier.queued} jobs waiting, as many as the tier {tier.name} allows"
            return Rejected("queue", text, fix="ask again when one has started", retry_after_s=QUEUE_RETRY_S)
        if tier.bytes_a_day is not None and usage.size >= tier.bytes_a_day:
            text = f"{request.user} has used the {tier.bytes_a_day} bytes a day of the tier {tier.name}"
            return Rejected("bytes", text, fix="ask again tomorrow", retry_after_s=self._day_s[1] - self._services.clock.time())
        return None

    def _of(self, user: str) -> Usage:
        if user not in self._usage:
            self._usage[user] = self._services.store.usage([user], self._day_s[0]).get(user, Usage())
        return self._usage[user]

    def _waiting(self) -> int:
        if self._queued is None:
            self._queued = self._services.store.counts((State.QUEUED,)).get(State.QUEUED, 0)
        return self._queued

    def _known(self, request: Request, id: str | None) -> bool:
        known = id if id is not None and request.key is None else job_id(request.user, request.key)
        return bool(self._services.store.get([known]))


def spend_requests(services: Services, asked: Sequence[Request]) -> list[Rejected | None]:
    """Take a token for each request, in one round trip; the refusal of each that finds none.

    Without Redis nobody can count: then all pass, or, with `HAUL_DOORS_WITHOUT_REDIS=closed`, none does.

    Raises:
        Transient: Redis does not answer, and the doors are closed without it.
    """
    limits = services.tiers.fresh()
    asks = [limits.requests(request.tier, request.user) for request in asked]
    if not any(asks):
        return [None] * len(asks)
    try:
        waits = services.coordinator.take_tokens(asks)
    except Transient as error:
        if services.settings.doors_without_redis == "closed":
            raise
        log.warning("requests are not counted", error=str(error))
        return [None] * len(asks)
    return [_too_many(request, wait) if wait else None for request, wait in zip(asked, waits, strict=True)]


def too_large(size: int | None, tier: Tier) -> Rejected | None:
    """The refusal of a job whose size is known and more than its tier may have."""
    if size is None or tier.largest_file is None or size <= tier.largest_file:
        return None
    return Rejected("size", f"{size} bytes are more than the {tier.largest_file} of the tier {tier.name}", fix="choose a smaller one")


def refused(job: Job, refusal: Rejected, at: float) -> Job:
    """A queued job that a rule refuses, as its user is told."""
    data = {"field": refusal.field, "reason": refusal.detail, "fix": refusal.fix}
    text = f"refused: {refusal}"
    return job.moved(State.FAILED, at, text, event=EventType.REFUSED, data=data, cause=Cause.REFUSED, reason=None, message=str(refusal))


def count_refusals(services: Services, refusals: Iterable[Rejected]) -> None:
    """Count what a door refused, by the rule that refused it."""
    for refusal in refusals:
        rule = "conflict" if isinstance(refusal, Conflict) else refusal.field if refusal.field in RULES else "request"
        services.metrics.refusals.labels(rule).inc()


def check_tier(name: str, limits: Limits) -> None:
    """Raise Rejected when there is no such tier."""
    if name not in limits.tiers:
        raise Rejected("tier", f"there is no tier {name!r}", fix=f"one of: {', '.join(limits.tiers)}")


def day_of(services: Services) -> tuple[float, float]:
    """Begin and end of the present day in `HAUL_TIMEZONE`, wall clock; a day may have 23 or 25 hours."""
    now = datetime.fromtimestamp(services.clock.time(), ZoneInfo(services.settings.timezone))
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return begin.timestamp(), (begin + timedelta(days=1)).timestamp()


def _too_many(request: Request, wait_s: float) -> Rejected:
    text = f"{request.user} asks too often"
    return Rejected("rate", text, fix=f"ask again in {max(0.1, wait_s):.1f} s", retry_after_s=wait_s)
