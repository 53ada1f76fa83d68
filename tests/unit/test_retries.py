"""Statuses and `Retry-After`, as a web server says them."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from worker.jobs.retries import POLICIES, RETRY_AFTER_MAX_S, STATUSES, answered, retry_after_s, span, spread
from worker.jobs.states import Cause

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("99999999", RETRY_AFTER_MAX_S),
        ("9" * 400, RETRY_AFTER_MAX_S),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_MAX_S),
        ("Tuesday, 14-Nov-23 22:14:50 GMT", 90.0),
        ("", None),
        (None, None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("Fri, 99 Dec 2025 23:59:59 GMT", None),
    ],
)
def test_a_wish_to_be_left_alone_is_read_in_seconds_or_as_a_date_and_bounded(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == (seconds if seconds is None else pytest.approx(seconds, abs=1))


def test_those_who_were_told_one_time_come_one_after_the_other() -> None:
    times = {spread(100.0) for _ in range(50)}
    assert len(times) > 10
    assert min(times) >= 100
    assert max(times) <= 110


def test_every_cause_has_a_policy_with_advice() -> None:
    assert set(POLICIES) == set(Cause)
    assert all(policy.hint and policy.first_s <= policy.max_s for policy in POLICIES.values())


@pytest.mark.parametrize("status", [*STATUSES, 400, 418, 599])
def test_the_text_of_a_status_names_it(status: int) -> None:
    assert f"(status {status})" in answered(status).text


@pytest.mark.parametrize(
    ("status", "cause", "passing"),
    [
        (401, Cause.FORBIDDEN, False),
        (403, Cause.FORBIDDEN, False),
        (407, Cause.FORBIDDEN, False),
        (451, Cause.FORBIDDEN, False),
        (404, Cause.NOT_FOUND, False),
        (410, Cause.NOT_FOUND, False),
        (408, Cause.HTTP, True),
        (425, Cause.BUSY, True),
        (429, Cause.BUSY, True),
        (503, Cause.BUSY, True),
        (500, Cause.HTTP, True),
        (502, Cause.HTTP, True),
        (501, Cause.HTTP, False),
        (418, Cause.HTTP, False),
    ],
)
def test_statuses_are_told_apart(status: int, cause: Cause, passing: bool) -> None:
    assert (answered(status).cause, answered(status).passing) == (cause, passing)


def test_a_length_of_time_is_said_as_people_say_it() -> None:
    assert [span(seconds) for seconds in (0.4, 40, 99, 720, 3600, 7 * 86_400)] == ["0 s", "40 s", "99 s", "12 min", "60 min", "168 h"]
