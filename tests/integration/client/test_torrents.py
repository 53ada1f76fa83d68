"""A bot sends `.torrent` files."""

from __future__ import annotations

import hashlib

import pytest

from tests.integration.doors import DEADLINE_S, steps_running
from tests.torrents import pack
from worker import pipeline
from worker.client import Client, Conflict, Rejected
from worker.jobs.states import State
from worker.ports import Services, Step


def test_a_torrent_file_goes_through_the_intake_and_its_ticket_is_its_job(bot: Client, services: Services) -> None:
    made = pack(version="hybrid")
    one = bot.enqueue(user="ann", torrent=made.document, key="t", select=[1, 3])
    [two] = bot.enqueue_many([{"user": "ann", "torrent": made.document}])
    refused = bot.enqueue(user="bob", uri=pack(version="v2").magnet())
    pipeline.run(services, Step.INTAKE)
    jobs = services.store.get([one.id, two.id, refused.id])
    assert all(jobs[id].description.v1 == made.v1 for id in (one.id, two.id))  # type: ignore[union-attr]
    assert (jobs[one.id].select, jobs[refused.id].cause) == ((1, 3), "refused")
    assert [*services.store.torrents([hashlib.sha256(made.document).hexdigest()]).values()] == [made.document]
    assert services.coordinator.waiting_size() == 2


def test_a_torrent_file_is_confirmed_by_the_api(api_bot: Client, services: Services) -> None:
    with steps_running(services):
        assert api_bot.enqueue(user="ann", torrent=pack().document, key="t", confirm_s=DEADLINE_S).status == "queued"
        with pytest.raises(Conflict):
            api_bot.enqueue(user="ann", torrent=pack(version="hybrid").document, key="t", confirm_s=DEADLINE_S)


def test_a_torrent_file_of_a_mebibyte_goes_through_and_a_larger_one_is_sent_to_the_api(bot: Client, services: Services) -> None:
    document = pack().document
    bot.enqueue(user="ann", torrent=document + bytes(1024 * 1024 - len(document)))
    pipeline.run(services, Step.INTAKE)
    assert services.store.counts() == {State.QUEUED: 1}
    with pytest.raises(Rejected, match="HTTP API") as rejected:
        bot.enqueue(user="ann", torrent=document + bytes(1024 * 1024 + 1 - len(document)))
    assert rejected.value.field == "torrent"


def test_a_torrent_and_an_action_on_it_take_effect_in_their_order(bot: Client, services: Services) -> None:
    for number in range(3):
        ticket = bot.enqueue(user="ann", torrent=pack().document, key=number)
        bot.control(ticket.id, "cancel")
    pipeline.run(services, Step.INTAKE)
    assert services.store.counts() == {State.CANCELLED: 3}
