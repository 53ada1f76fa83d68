"""A bot wants to be sure that its request is recorded."""

from __future__ import annotations

import time

import pytest

from tests.integration.client.asked import URI
from tests.integration.doors import DEADLINE_S, steps_running
from worker import pipeline
from worker.client import Client, Conflict, Rejected
from worker.ports import Services, Step


def test_confirmation_waits_until_the_job_is_recorded(bot: Client, services: Services) -> None:
    with steps_running(services):
        ticket = bot.enqueue(URI, user="ann", key="chat:1", confirm_s=DEADLINE_S)
    assert ticket.status == "queued"
    assert services.store.get([ticket.id])


def test_confirmation_that_does_not_come_leaves_the_request_accepted(bot: Client, services: Services) -> None:
    began = time.monotonic()
    ticket = bot.enqueue(URI, user="ann", confirm_s=0.3)
    assert ticket.status == "accepted"
    assert 0.3 <= time.monotonic() - began < 20.0
    pipeline.run(services, Step.INTAKE)
    assert services.store.get([ticket.id])


def test_a_refusal_of_the_stack_is_raised_when_confirmation_is_asked_for(bot: Client, services: Services) -> None:
    with steps_running(services):
        with pytest.raises(Rejected, match="private network") as refused:
            bot.enqueue("http://10.0.0.1/x", user="ann", confirm_s=DEADLINE_S)
        assert (refused.value.field, bool(refused.value.fix)) == ("uri", True)
        bot.enqueue(URI, user="ann", key="chat:1", confirm_s=DEADLINE_S)
        with pytest.raises(Conflict):
            bot.enqueue(URI + "?other", user="ann", key="chat:1", confirm_s=DEADLINE_S)


def test_with_the_api_a_known_key_is_confirmed_too(api_bot: Client, services: Services) -> None:
    with steps_running(services):
        for _ in range(2):
            assert api_bot.enqueue(URI, user="ann", key="chat:1", confirm_s=DEADLINE_S).status == "queued"
        with pytest.raises(Conflict):
            api_bot.enqueue("https://example.org/other", user="ann", key="chat:1", confirm_s=DEADLINE_S)
        with pytest.raises(Rejected, match="private network"):
            api_bot.enqueue("http://10.0.0.1/x", user="ann", confirm_s=DEADLINE_S)
