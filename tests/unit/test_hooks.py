"""A job's webhook: who its receiver is, without the address, and when it is tried again."""

from __future__ import annotations

import pytest

from worker.jobs.errors import Rejected
from worker.jobs.hooks import BACKOFF_MAX_S, FIRST, Hook, hook_of, receiver_of, receivers

ONE, TWO = "https://user:hunter2@one.example:8443/hunter2?token=hunter2", "http://two.example/hunter2"
NOW = 1_000.0


def test_a_request_that_names_no_webhook_has_the_first_whichever_that_is_later() -> None:
    hook = hook_of(None, [ONE, TWO])
    assert hook == Hook(FIRST, "one.example:8443")
    assert receivers([TWO])[FIRST] == TWO


def test_a_request_may_name_any_of_the_addresses() -> None:
    hook = hook_of(TWO, [ONE, TWO])
    assert hook == Hook(receiver_of(TWO), "two.example")
    assert receivers([TWO, ONE])[hook.receiver] == receivers([ONE, TWO])[hook.receiver] == TWO


def test_without_addresses_there_is_no_hook() -> None:
    assert hook_of(None, []) is None
    assert receivers([]) == {}


def test_an_address_that_is_not_known_is_refused_with_the_fix_and_no_secret_is_told() -> None:
    with pytest.raises(Rejected, match="webhook: is none of the addresses") as refused:
        hook_of("https://three.example/hunter2", [ONE, TWO])
    assert (refused.value.field, refused.value.fix) == ("webhook", "an address at one.example:8443, two.example is known")
    assert "hunter2" not in str(refused.value)
    with pytest.raises(Rejected, match="leave it out; the operator sets HAUL_WEBHOOKS"):
        hook_of(ONE, [])


def test_the_record_holds_no_address() -> None:
    assert "hunter2" not in f"{hook_of(ONE, [ONE])} {hook_of(TWO, [ONE, TWO])}"


def test_a_failure_puts_off_twice_as_long_each_time_up_to_five_minutes() -> None:
    hook, waits = Hook(FIRST, "host"), []
    for _ in range(60):
        hook = hook.failed(NOW)
        waits.append(hook.not_before - NOW)
    assert all(min(BACKOFF_MAX_S, 2.0**n) / 2 <= wait <= min(BACKOFF_MAX_S, 2.0**n) for n, wait in enumerate(waits))
    assert (hook.failures, hook.failing_since, hook.sent) == (60, NOW, 0)
    assert hook.failed(NOW + 9).failing_since == NOW


def test_after_an_event_was_taken_the_next_one_is_tried_at_once() -> None:
    assert Hook(FIRST, "host").failed(NOW).past(3) == Hook(FIRST, "host", sent=3)
