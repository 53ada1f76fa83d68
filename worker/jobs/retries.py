"""What is tried again, how often and when; and what a web server's refusal says of a source."""

from __future__ import annotations

import random
from collections.abc import Mapping

from worker.jobs.states import Cause

#: Automatic retries by cause, for faults that may pass. A refused or unknown host must end in seconds.
RETRIES: Mapping[Cause, int] = {
    Cause.UNREACHABLE: 1,
    Cause.HTTP: 4,
    Cause.INTERRUPTED: 5,
    Cause.STALLED: 2,
    Cause.METADATA: 1,
    Cause.ENGINE: 5,
}
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0

#: HTTP statuses after which the same request may succeed later.
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 509, *range(520, 528)})


def backoff_s(failures: int) -> float:
    """Seconds to the next try: exponential with full jitter above a half."""
    ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0**failures)
    return ceiling * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing


def status_cause(status: int) -> tuple[Cause, bool]:
    """The cause of a failure for an HTTP status, and whether the same request may succeed later."""
    if status in (404, 410):
        return Cause.NOT_FOUND, False
    if status in (401, 403, 407, 451):
        return Cause.FORBIDDEN, False
    return Cause.HTTP, status in PASSING_STATUSES
