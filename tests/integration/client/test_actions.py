"""A bot pauses, resumes, cancels and retries."""

from __future__ import annotations

import pytest

from tests.integration.client.asked import URI
from worker import pipeline
from worker.client import Client, Rejected
from worker.jobs.states import State
from worker.ports import Services, Step


def test_an_action_follows_the_request_in_order(bot: Client, services: Services) -> None:
    ticket = bot.enqueue(URI, user="ann")
    for action in ("pause", "resume", "cancel", "pause"):
        bot.control(ticket.id, action)
    pipeline.run(services, Step.INTAKE)
    assert services.store.get([ticket.id])[ticket.id].state is State.CANCELLED
    assert services.coordinator.intake_size() == 0


def test_wrong_actions_and_ids_are_rejected_before_anything_is_sent(bot: Client, services: Services) -> None:
    for id, action, field in (("0" * 24, "explode", "action"), ("0" * 24, "", "action"), ("x", "pause", "id"), (None, "pause", "id")):
        with pytest.raises(Rejected) as rejected:
            bot.control(id, action)  # type: ignore[arg-type]
        assert rejected.value.field == field
    assert services.coordinator.intake_size() == 0
