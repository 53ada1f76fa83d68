"""A bot hears of its jobs."""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client.asked import URI, told
from tests.integration.doors import DEADLINE_S, services_on, steps_running, until
from worker.cli.servers import Server
from worker.client import Client, Rejected, Transient
from worker.client.feed import Recent
from worker.ports import Services


def test_events_of_a_user_come_in_order_and_only_once(bot: Client, services: Services) -> None:
    start = bot._feed.now()
    services.coordinator.publish([told(1), told(2, "bob"), told(1), told(3)])
    services.coordinator.publish([told(3), told(4)])
    seen = list(bot.events(user="ann", after=start, wait_s=0.2))
    assert [event["id"] for event in seen] == ["job:1", "job:3", "job:4"]
    assert seen[0]["text"] == "it runs"


def test_the_life_of_a_job_is_heard(bot: Client, services: Services) -> None:
    heard: list[str] = []
    start = bot._feed.now()
    with steps_running(services):
        ticket = bot.enqueue(URI, user=42, key="chat:1")
        bot.control(ticket.id, "pause")
        bot.control(ticket.id, "cancel")
        for event in bot.events(user=42, after=start, wait_s=DEADLINE_S):
            assert (event["job"], event["key"]) == (ticket.id, "chat:1")
            heard.append(event["type"])
            if event["type"] == "job.cancelled":
                break
    assert heard == ["job.queued", "job.paused", "job.cancelled"]


def test_a_reader_goes_on_from_the_place_of_the_last_event_it_dealt_with(bot: Client, services: Services) -> None:
    start = bot._feed.now()
    services.coordinator.publish([told(n) for n in range(500)])
    dealt: list[str] = []
    place = start
    while True:  # a bot that crashes after every third event
        for number, event in enumerate(bot.events(after=place, wait_s=0.1)):
            dealt.append(event["id"])
            place = event["place"]
            if number == 249:
                break
        else:
            break
    assert list(dict.fromkeys(dealt)) == [f"job:{n}" for n in range(500)]


def test_events_from_now_on_leave_out_what_was_before(bot: Client, services: Services) -> None:
    services.coordinator.publish([told(1)])
    reader = bot.events(wait_s=DEADLINE_S)
    publisher = threading.Timer(0.3, services.coordinator.publish, [[told(2)]])
    publisher.start()
    event = next(reader)
    publisher.join(DEADLINE_S)  # it may be read before the publisher has its answer
    assert event["id"] == "job:2"
    assert list(bot.events(after=event["place"], wait_s=0)) == []


def test_a_place_that_is_gone_is_told_and_reading_goes_on(bot: Client, services: Services) -> None:
    services.coordinator.publish([told(1)])
    reader = bot.events(user="ann", after="1-1", wait_s=DEADLINE_S)
    reset = next(reader)
    assert reset["type"] == "reset"
    assert reset["since"] < time.time()
    services.coordinator.publish([told(2)])
    assert next(reader)["id"] == "job:2"
    assert [event["id"] for event in bot.events(after=reset["place"], wait_s=0)] == ["job:2"]


def test_a_place_that_is_none_is_rejected(bot: Client) -> None:
    with pytest.raises(Rejected, match="place"):
        next(bot.events(after="nonsense"))


def test_a_reader_lives_through_an_outage_of_redis(own_valkey: Server, key_prefix: str, tmp_path: Path) -> None:
    with services_on(own_valkey.url, key_prefix, tmp_path) as services, Client(own_valkey.url, prefix=key_prefix) as bot:
        heard: list[str] = []
        reader = threading.Thread(target=lambda: heard.extend(event["id"] for event in bot.events(after="0-0")))
        reader.start()
        services.coordinator.publish([told(1)])
        until(lambda: heard, "it hears")
        own_valkey.stop()
        with pytest.raises(Transient):
            services.coordinator.ping()
        restarted = subprocess.Popen(own_valkey.process.args)
        try:
            until(lambda: published(services, told(2)), "the server is back")
            until(lambda: heard == ["job:1", "job:2"], "it hears what came after the outage")
        finally:
            bot.close()
            reader.join(DEADLINE_S)
            restarted.kill()
            restarted.wait()
        assert not reader.is_alive()


def published(services: Services, event: dict[str, Any]) -> bool:
    try:
        services.coordinator.publish([event])
    except Transient:
        return False
    return True


def test_close_ends_a_reader_that_waits(valkey: Server, key_prefix: str) -> None:
    bot = Client(valkey.url, prefix=key_prefix)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: list(bot.events()))
        until(waiting.running, "it waits")
        bot.close()
        assert waiting.result(5.0) == []


def test_the_memory_of_seen_events_is_bounded() -> None:
    seen = Recent(3)
    assert [seen.add(id) for id in "aabcda"] == [True, False, True, True, True, True]
    assert len(seen._ids) == 3
