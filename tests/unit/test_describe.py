"""What becomes of a job once its `.torrent` file was fetched, or was not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.admission.describe import described
from worker.jobs.description import Description
from worker.jobs.events import EventType
from worker.jobs.model import Job, new_job
from worker.jobs.requests import parse
from worker.jobs.retries import POLICIES
from worker.jobs.states import Cause, Reason, State
from worker.ports import Fault

ABOUT = Description("d", "x", 12, 3, v1="1" * 40)
AT, NOW = 5.0, 100.0


def waiting(**changes: object) -> Job:
    base = new_job(parse({"uri": "http://host/x.torrent", "user": "u"}), 1.0)
    return replace(base, reason=Reason.DESCRIPTION, **changes)  # type: ignore[arg-type]


def test_a_job_that_is_described_waits_for_its_turn_and_forgets_its_failures() -> None:
    new = described(waiting(failures=2, message="busy", not_before=99.0), ABOUT, AT, NOW)
    assert (new.state, new.description, new.reason, new.needs_description) == (State.QUEUED, ABOUT, Reason.TURN, False)
    assert (new.failures, new.message, new.not_before) == (0, None, 0.0)
    assert new.events[-1].text == "the torrent has 3 files, 12 bytes"
    assert [event.type for event in new.unsent] == [EventType.QUEUED]


@pytest.mark.parametrize("cause", [Cause.UNREACHABLE, Cause.HTTP, Cause.INTERRUPTED])
def test_a_fault_that_may_pass_is_tried_again_a_bounded_number_of_times(cause: Cause) -> None:
    job, tries = waiting(), 0
    while not job.terminal:
        job, tries = described(job, Fault(cause, True, "busy"), AT, NOW), tries + 1
        assert job.terminal or (job.reason, job.message, job.attempt) == (Reason.DESCRIPTION, "busy", 1)
        assert job.terminal or 0.5 <= job.not_before - NOW <= 60
    assert tries == POLICIES[cause].tries + 1
    assert (job.state, job.cause, job.message) == (State.FAILED, cause, "busy")


def test_a_server_that_says_when_to_come_back_is_asked_no_earlier() -> None:
    new = described(waiting(), Fault(Cause.BUSY, True, "busy", retry_after_s=90.0), AT, NOW)
    assert 90 <= new.not_before - NOW <= 99
    assert "fetched again in 9" in new.events[-1].text


@pytest.mark.parametrize("cause", [Cause.NOT_FOUND, Cause.FORBIDDEN, Cause.SOURCE, Cause.REFUSED, Cause.UNSUPPORTED])
def test_a_fault_that_stays_fails_the_job_by_cause_and_tells(cause: Cause) -> None:
    new = described(waiting(), Fault(cause, False, "no"), AT, NOW)
    assert (new.state, new.cause, new.message, new.reason) == (State.FAILED, cause, "no", None)
    assert new.unsent[-1].type is EventType.FAILED
    assert new.unsent[-1].data == {"cause": cause, "reason": "no"}
