"""A Redis that refuses: it is full, a replica, or wants another password; and addresses that cannot be used."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis as client

from tests.contract.coordinator_suite import Make, event, request
from tests.contract.redis.coordinators import maker
from worker.cli.servers import Server, free_port
from worker.coordination.redis import RedisCoordinator
from worker.jobs.errors import Transient
from worker.settings import SettingsError


def test_a_wrong_password_is_transient_and_not_shown(any_redis: Server) -> None:
    port = any_redis.url.rpartition(":")[2]
    with maker(f"redis://:verysecret@127.0.0.1:{port}", "x") as make, pytest.raises(Transient) as caught:
        make().ping()
    assert "verysecret" not in str(caught.value)


def test_a_full_server_refuses_messages_and_still_gives_out_those_it_has(own: Server, make_own: Make) -> None:
    redis = make_own()
    assert redis.take_intake("a", 10) == []  # the consumer group is there
    redis.offer([request(1)])
    admin = client.Redis.from_url(own.url)
    admin.config_set("maxmemory", "1")
    try:
        with pytest.raises(Transient, match="maxmemory"):
            redis.offer([request(2)])
        taken = redis.take_intake("new", 10)
        redis.ack_intake([entry.id for entry in taken])
        assert [entry.body for entry in taken] == [request(1)]
        assert redis.intake_size() == 0
    finally:
        admin.config_set("maxmemory", "0")
        admin.close()


def test_a_server_that_is_full_or_a_replica_is_named_so_and_what_was_sent_stays_out_of_the_message(own: Server, make_own: Make) -> None:
    redis, admin = make_own(), client.Redis.from_url(own.url)
    calls: list[Callable[[], object]] = [
        lambda: redis.publish([{"id": "verysecret"}]),
        lambda: redis.offer([{"kind": "verysecret"}]),
        lambda: redis.claim("verysecret", "me", 1.0),
    ]
    admin.config_set("maxmemory", 1)
    for call in calls:
        with pytest.raises(Transient, match="its memory is full") as caught:
            call()
        assert "verysecret" not in str(caught.value)
    admin.config_set("maxmemory", 0)
    admin.replicaof("127.0.0.1", free_port())
    for call in calls:
        with pytest.raises(Transient, match="takes no writes"):
            call()
    admin.replicaof("NO", "ONE")
    redis.publish([event(1)])
    admin.set("own:events", "no stream")
    with pytest.raises(Transient, match="WRONGTYPE") as caught:
        redis.publish([{"id": "verysecret"}])
    assert "verysecret" not in str(caught.value)
    admin.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sentinel://:verysecret@host:26379/haul", "not supported yet"),
        ("mongodb://:verysecret@host", "redis:// or rediss://"),
        ("verysecret", "redis:// or rediss://"),
        ("", "redis:// or rediss://"),
        ("redis://:very/secret@host:6379/0", "percent-encoded"),
        ("redis://:verysecret@[host", "redis:// or rediss://"),
        ("redis://:verysecret@host:99999", "percent-encoded"),
        ("redis://:verysecret@host?socket_timeout=verysecret", "percent-encoded"),
        ("redis://:verysecret@host?no_such_option=1", "percent-encoded"),
    ],
)
def test_an_address_that_cannot_be_used_names_the_variable_and_not_the_password(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        RedisCoordinator(url)
    assert "HAUL_REDIS_URL" in str(caught.value)
    assert "very" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
