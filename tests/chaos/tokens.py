"""Whether more was started than the start tokens of a tier allow, however often what counts them died."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from worker.jobs.model import Job

#: A start is written down a moment before its token is taken; on a loaded machine the moment is longer.
SLACK_S = 3.0
ADMITTED = "admitted to "


@dataclass(slots=True)
class Disturbances:
    """What moves tokens against the times of starts; wall clock.

    Attributes:
        losses: when Redis died; losing its last second may fill a bucket once.
        frozen: when somebody stood still who may have been about to take tokens, or to give them.
    """

    losses: list[float] = field(default_factory=list)
    frozen: list[tuple[float, float]] = field(default_factory=list)


def starts(jobs: Iterable[Job], tier: str) -> list[float]:
    """When jobs of a tier were admitted, in order."""
    return sorted(event.at for job in jobs if job.tier == tier for event in job.events if event.text.startswith(ADMITTED))


def exceeded(times: Sequence[float], rate: float, burst: float, disturbed: Disturbances) -> int:
    """By how many the starts of the worst span of time are more than the bucket allows."""
    worst = 0.0
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            end = times[last]
            fills = sum(begin - SLACK_S <= at <= end + SLACK_S for at in disturbed.losses)
            still = sum(until - since for since, until in disturbed.frozen if since <= end + SLACK_S and until >= begin - SLACK_S)
            worst = max(worst, last - first + 1 - burst * (1 + fills) - rate * (end - begin + SLACK_S + still))
    return math.ceil(worst)
