"""Start tokens: what admission takes right before it records a start, and what a job is told that finds none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from worker.admission.decide import EngineView, Wait
from worker.jobs.model import Job
from worker.jobs.states import Reason
from worker.jobs.tiers import Limits
from worker.ports import Services, Step

#: A job without a token is looked at again when its turn in the line comes, and at the latest after this time: limits may have
#: been raised, and jobs before it cancelled. Ten thousand waiting jobs cost admission three looks of a hundred a second.
LINE_S = 30.0


def spend_starts(services: Services, jobs: Sequence[Job], now: float) -> dict[str, Wait]:
    """Take a token of each bucket for each of the jobs, in their order, in one round trip; those that have to wait, by id.

    Args:
        now: the store's clock.

    Raises:
        Transient: Redis does not answer; nothing is started without it.
    """
    limits = services.tiers.fresh()
    asks = {job.id: limits.starts(job.tier, job.user) for job in jobs}
    bounded = {id: ask for id, ask in asks.items() if ask}
    waits = services.coordinator.take_tokens(list(bounded.values()), LINE_S) if bounded else []
    refused = {id: _wait(wait, now) for id, wait in zip(bounded, waits, strict=True) if wait}
    gaps_s = [max(1 / bucket.rate for bucket in bounded[job.id]) for job in jobs if _in_line(job, bounded, refused)]
    if gaps_s:  # the next of the line comes with the next token, and nothing else may happen then that makes admission look
        services.coordinator.remind(Step.ADMIT, now + min(gaps_s))
    return refused


def crowded(limits: Limits, engines: Iterable[EngineView]) -> Wait | None:
    """The wait of everybody while as many jobs take a slot as may, on all engines together."""
    most = limits.overall.running
    if most is None or sum(engine.live for engine in engines) < most:
        return None
    return Wait(Reason.SLOTS, f"{most} jobs run, as many as may at once")


def without_token(services: Services, job: Job, now: float) -> Wait | None:
    """The wait of a job that would find no token now; takes none."""
    buckets = services.tiers.fresh().starts(job.tier, job.user)
    levels = services.coordinator.tokens(buckets) if buckets else []
    waits = [(1 - level) / bucket.rate for bucket, level in zip(buckets, levels, strict=True) if level < 1]
    return _wait(max(waits), now) if waits else None


def _in_line(job: Job, bounded: Mapping[str, object], refused: Mapping[str, object]) -> bool:
    return job.id in refused or (job.id in bounded and job.reason is Reason.RATE)


def _wait(seconds: float, now: float) -> Wait:
    return Wait(Reason.RATE, f"as many jobs have started as may; it is looked at again in {seconds:.1f} s", now + seconds)
