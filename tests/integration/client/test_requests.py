"""A bot asks: what is accepted becomes a record, what is wrong is rejected before it is sent."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from tests.integration.client.asked import URI
from tests.integration.doors import DEADLINE_S, steps_running
from worker import pipeline
from worker.cli.servers import Server
from worker.client import Client, Rejected, Ticket, Transient
from worker.jobs.model import job_id
from worker.jobs.states import State
from worker.ports import SWEEPER, Services, Step


def test_an_accepted_request_is_recorded_under_the_id_of_its_ticket(bot: Client, services: Services) -> None:
    keyed = bot.enqueue(URI, user=42, key="chat:1", priority=3, name="x.iso", select=range(1, 4), tier="vip", seed_ratio=1.5)
    keyless = bot.enqueue(URI, user="ann")
    assert keyed == Ticket(job_id("42", "chat:1"), "accepted")
    pipeline.run(services, Step.INTAKE)
    jobs = services.store.get([keyed.id, keyless.id])
    assert set(jobs) == {keyed.id, keyless.id}
    record = jobs[keyed.id]
    assert (record.user, record.key, record.priority, record.name, record.select) == ("42", "chat:1", 3, "x.iso", (1, 2, 3))
    assert (record.tier, record.seed_ratio, record.guarded, record.state) == ("vip", 1.5, True, State.QUEUED)
    assert jobs[keyless.id].key is None


def test_the_same_key_asked_for_again_is_one_job(bot: Client, services: Services) -> None:
    tickets = {bot.enqueue(URI, user="ann", key="chat:1").id for _ in range(3)}
    pipeline.run(services, Step.INTAKE)
    tickets.add(bot.enqueue(URI, user="ann", key="chat:1").id)
    pipeline.run(services, Step.INTAKE)
    assert len(tickets) == 1
    assert services.store.counts() == {State.QUEUED: 1}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"uri": "gopher://host/x"}, "uri"),
        ({"uri": "https://host/\ud800"}, "uri"),
        ({"uri": None}, "uri"),
        ({"torrent": b"d4:infode"}, "torrent"),
        ({"uri": None, "torrent": b""}, "torrent"),
        ({"uri": None, "torrent": "text"}, "torrent"),
        ({"uri": None, "torrent": b"d4:infodee"}, "torrent"),
        ({"user": ""}, "user"),
        ({"user": True}, "user"),
        ({"priority": -1}, "priority"),
        ({"priority": object()}, "priority"),
        ({"sha256": "abc"}, "sha256"),
        ({"name": "../x"}, "name"),
        ({"engine": "a/b"}, "engine"),
        ({"select": "x"}, "select"),
        ({"seed_ratio": float("nan")}, "seed_ratio"),
        ({"category": "a/b"}, "category"),
    ],
)
def test_bad_input_is_rejected_before_anything_is_sent(bot: Client, services: Services, spec: Any, field: str) -> None:
    with pytest.raises(Rejected) as rejected:
        bot.enqueue(**{"uri": URI, "user": "ann", **spec}, confirm_s=1)
    assert (rejected.value.field, bool(rejected.value.fix)) == (field, True)
    assert services.coordinator.intake_size() == 0


def test_many_are_checked_before_any_is_sent(bot: Client, services: Services) -> None:
    good: list[dict[str, Any]] = [{"uri": URI, "user": "ann", "key": n} for n in range(150)]
    with pytest.raises(Rejected, match=r"specs\[150\]\.uri: has no scheme"):
        bot.enqueue_many([*good, {"uri": "nowhere", "user": "ann"}])
    with pytest.raises(Rejected, match="confirm_s"):
        bot.enqueue_many([{**good[0], "confirm_s": 1}])
    assert services.coordinator.intake_size() == 0
    tickets = bot.enqueue_many(good)
    assert services.coordinator.intake_size() == 150
    pipeline.run(services, Step.INTAKE)
    assert set(services.store.get([ticket.id for ticket in tickets])) == {job_id("ann", str(n)) for n in range(150)}
    assert bot.enqueue_many([]) == []


def test_many_are_sent_in_one_round_trip(valkey: Server, bot: Client, services: Services) -> None:
    bot.enqueue_many([{"uri": URI, "user": "ann"}])  # connects and loads the script
    with Redis.from_url(valkey.url) as watcher, watcher.monitor() as seen:
        bot.enqueue_many([{"uri": URI, "user": "ann"} for _ in range(100)])
        watcher.echo("end")
        commands = []
        while "end" not in (line := seen.next_command())["command"]:
            commands += [line["command"].split()[0]] if line["client_type"] != "lua" else []
        assert [command for command in commands if command not in ("HELLO", "CLIENT", "SELECT", "AUTH")] == ["EVALSHA"]


def test_a_request_wakes_the_sweeper_which_sends_the_nudge(bot: Client, services: Services) -> None:
    bot.enqueue(URI, user="ann")
    assert services.coordinator.rest(SWEEPER, 5.0), "it is woken"
    assert Step.INTAKE in pipeline.sweep(services), "and finds the message"


def test_many_threads_share_a_client(bot: Client, services: Services) -> None:
    with steps_running(services), ThreadPoolExecutor(8) as pool:
        tickets = list(pool.map(lambda n: bot.enqueue(URI, user="ann", key=n, confirm_s=DEADLINE_S), range(80)))
    assert {ticket.status for ticket in tickets} == {"queued"}
    assert services.store.counts() == {State.QUEUED: 80}


def test_without_redis_a_request_fails_in_time_and_says_so(own_valkey: Server) -> None:
    with Client(own_valkey.url) as bot:
        own_valkey.stop()
        began = time.monotonic()
        for call in (lambda: bot.enqueue(URI, user="ann", key="k", confirm_s=60), lambda: bot.control("0" * 24, "pause")):
            with pytest.raises(Transient):
                call()
        assert time.monotonic() - began < 30.0
