"""Limits on a running stack: jobs start as fast as they may, no faster and hardly slower."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.stack import Stack, eventually
from worker import pipeline
from worker.jobs.limits import override_key
from worker.jobs.states import Reason

RATE, BURST, JOBS = 4.0, 2, 20
#: What a start may be late: the sweeper is told of the first wait within 2 s, of the others within tenths of a second.
LATE_S = 15.0


@pytest.fixture
def limited(stack: Stack, user: str) -> Iterator[str]:
    """A user with a start bucket of his own, in force in the worker too."""
    keys = {override_key("users", "rate", user): RATE, override_key("users", "burst", user): BURST}
    stack.services.store.set_limits(keys)
    eventually(lambda: stack.services.tiers.fresh().starts("free", user)[-1].rate == RATE, "the limit is in force here")
    begun = time.monotonic()
    eventually(lambda: time.monotonic() - begun > 2.5, "every process has looked again")
    yield user
    stack.services.store.set_limits({}, drop=list(keys))


def test_jobs_start_at_the_rate_of_their_user_and_are_told_why_they_wait(stack: Stack, limited: str) -> None:
    ids = stack.ask_all([{"uri": f"/file/l{number}?size=1000", "user": limited} for number in range(JOBS)])
    waiting = eventually(lambda: next((id for id in ids[::-1] if stack.job(id).reason is Reason.RATE), ""), "one waits for a token")
    said = pipeline.why(stack.services, waiting)
    assert (said.reason, said.retry_in_s is not None) in ((str(Reason.RATE), True), (None, False)), said
    for id in ids:
        stack.until(id, "done", timeout_s=60)
    starts = sorted(next(event.at for event in stack.job(id).events if event.text.startswith("admitted")) for id in ids)
    due_s = (JOBS - BURST) / RATE
    for first in range(JOBS):
        for last in range(first, JOBS):
            # Two readings of a wall clock, in the middle of a step, not of the server that counts.
            assert last - first + 1 <= BURST + RATE * (starts[last] - starts[first] + 0.5) + 1
    assert due_s - 0.5 <= starts[-1] - starts[0] <= due_s + LATE_S
