"""What a user may have and has, now, in numbers that a bot can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from worker.admission.quotas import Quotas, check_tier, day_of
from worker.jobs.errors import Transient
from worker.jobs.model import Request, Source, SourceKind
from worker.jobs.requests import user_name
from worker.jobs.tiers import Bucket
from worker.ports import JobFilter, Services, Usage


def allowance(services: Services, user: str, tier: str | None = None) -> dict[str, Any]:
    """The limits of a user, what he has of each, and when he may ask and start again; JSON values.

    Args:
        tier: None for the one his newest job was asked for in, or `free` when he has none.

    Raises:
        Rejected: there is no such tier, or it is no name of a user.
        Transient: the store does not answer. Without Redis what is in the buckets is None.
    """
    limits, user = services.tiers.fresh(), user_name(user)
    name = tier or _last_tier(services, user)
    if tier:
        check_tier(tier, limits)
    mine = limits.of(name, user)
    begin, end = day_of(services)
    usage = services.store.usage([user], begin).get(user, Usage())
    asked, starts = limits.requests(name, user), limits.starts(name, user)
    levels = _levels(services, [*asked, *starts])
    refusal = Quotas(services).refusal(Request(Source(SourceKind.HTTP, ""), user, tier=mine.name), mine)  # whatever he asks for
    request_waits = [_wait_s(bucket, levels) for bucket in asked] + [refusal.retry_after_s if refusal else 0.0]
    return {
        "user": user,
        "tier": mine.name,
        "limits": {field: value for field, value in asdict(mine).items() if field != "name"},
        "requests": [_shown(bucket, levels) for bucket in asked],
        "starts": [_shown(bucket, levels) for bucket in starts],
        "running": usage.running,
        "queued": usage.queued,
        "bytes_today": usage.size,
        "day_ends_in_s": end - services.clock.time(),
        "next_request_in_s": _longest(request_waits),
        "next_start_in_s": _longest([_wait_s(bucket, levels) for bucket in starts]),
        "refusal": str(refusal) if refusal else None,
        "fault": services.tiers.fault,
    }


def overview(services: Services) -> dict[str, Any]:
    """All limits in force, as JSON; `fault` is why what was written last is not."""
    limits = services.tiers.fresh()
    tiers = {name: {field: value for field, value in asdict(tier).items() if field != "name"} for name, tier in limits.tiers.items()}
    users = {user: dict(own) for user, own in sorted(limits.users.items())}
    return {"tiers": tiers, "global": asdict(limits.overall), "users": users, "fault": services.tiers.fault}


def _last_tier(services: Services, user: str) -> str:
    newest = services.store.page(JobFilter(user=user), 1).jobs
    return newest[0].tier if newest else "free"


def _levels(services: Services, buckets: Sequence[Bucket]) -> dict[str, float] | None:
    try:
        return dict(zip([b.name for b in buckets], services.coordinator.tokens(buckets) if buckets else [], strict=True))
    except Transient:
        return None


def _shown(bucket: Bucket, levels: dict[str, float] | None) -> dict[str, Any]:
    tokens = levels[bucket.name] if levels is not None else None
    full_in_s = None if tokens is None else max(0.0, bucket.burst - tokens) / bucket.rate
    return {"bucket": bucket.name, "tokens": tokens, "burst": bucket.burst, "rate": bucket.rate, "full_in_s": full_in_s}


def _wait_s(bucket: Bucket, levels: dict[str, float] | None) -> float | None:
    return None if levels is None else max(0.0, 1 - levels[bucket.name]) / bucket.rate


def _longest(waits: Sequence[float | None]) -> float | None:
    known = [wait for wait in waits if wait is not None]
    return max(known, default=0.0) if len(known) == len(waits) else None
