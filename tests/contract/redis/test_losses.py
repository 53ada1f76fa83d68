"""A Redis that forgets what it had, or is killed."""

from __future__ import annotations

import time

import pytest
import redis as client

from tests.contract.bucket_suite import SLOW
from tests.contract.coordinator_suite import Make, event, ids_of, request
from tests.contract.redis.coordinators import every_call, fill, recovered
from worker.cli.servers import Server
from worker.ports import StreamReset


def test_after_a_flushall_everything_works_again_without_a_restart(own: Server, make_own: Make) -> None:
    redis = make_own()
    fill(redis)
    assert len(redis.take_intake("a", 10)) == 2
    _, place = redis.read_events(None, 10, 0.0)
    admin = client.Redis.from_url(own.url)
    admin.flushall()
    admin.close()
    with pytest.raises(StreamReset) as reset:
        redis.read_events(place, 10, 0.0)
    fill(redis)
    assert [entry.body for entry in redis.take_intake("a", 10)] == [request(1), request(2)]
    assert redis.tokens([SLOW]) == [pytest.approx(SLOW.burst - 1, abs=0.1)]
    assert ids_of(redis, 10, 0.0) == ["a"]
    assert redis.rest("aria2", 1.0) is True
    assert set(redis.snapshots()) == {"aria2"}
    assert redis.read_events(reset.value.after, 10, 0.0)[0] == [event(1)]
    with pytest.raises(StreamReset):
        redis.read_events(place, 10, 0.0)


def test_a_flushall_while_a_reader_waits_loses_it_nothing_that_comes_later(own: Server, make_own: Make) -> None:
    redis = make_own(block_s=0.1)
    redis.publish([event(1)])
    _, place = redis.read_events(None, 10, 0.0)
    admin = client.Redis.from_url(own.url)
    admin.flushall()
    admin.close()
    redis.publish([event(2)])
    with pytest.raises(StreamReset) as reset:
        redis.read_events(place, 10, 1.0)
    assert redis.read_events("0-0", 10, 0.0)[0] == [event(2)]
    assert reset.value.since > time.time() - 120


def test_what_was_offered_survives_a_killed_server_and_the_same_object_goes_on(own: Server, make_own: Make) -> None:
    redis = make_own(reclaim_s=0.0)
    redis.offer([request(1), request(2)])
    assert len(redis.take_intake("a", 1)) == 1
    own.process.kill()
    own.process.wait()
    assert redis.rest("aria2", 0.05) is False
    assert not recovered(redis)
    own.restart()
    own.await_ready()
    assert [entry.body for entry in redis.take_intake("b", 10)] == [request(1), request(2)]
    for call in every_call(redis):
        call()
